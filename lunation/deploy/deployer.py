"""What whoever deploys may do: the role that each row is managed with, and what its calls need besides."""

from collections.abc import Iterable

from lunation.deploy.resource import Resource

BESIDE = {
    # Whoever lets something run as an account must be allowed to act as that account:
    # https://cloud.google.com/iam/docs/service-accounts-actas.
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    # An alert that looks at the log is a notification rule of Cloud Logging, too, which no role of Monitoring gives:
    # https://cloud.google.com/iam/docs/roles-permissions/logging.
    "logging.notificationRules.create": "roles/logging.configWriter",
}
"""The smallest role that fits, by the permission that a call needs beside the row's own role."""


def roles(rows: Iterable[Resource]) -> set[str]:
    """Every role that deploying, changing and taking down ``rows`` takes. docs/deploy.md grants exactly these."""
    return {row.managed_with for row in rows} | set(BESIDE.values())
