"""What whoever deploys must be allowed, by the role that gives it."""

PERMISSIONS: dict[str, str] = {
    "resourcemanager.projects.get": "roles/browser",
}
