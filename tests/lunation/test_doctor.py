"""``lunation doctor``: a project in which nothing is missing, and one with each defect in turn."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_admin_v1.types import Database
from google.rpc.error_details_pb2 import ErrorInfo

from laptop.errors import ServiceError
from lunation.deploy import artefacts
from lunation.deploy.apis import Api
from lunation.deploy.deployer import PERMISSIONS
from lunation.deploy.place import PlaceError
from lunation.deploy.table import resources
from lunation.doctor import CHECKS, Finding, Patient, _in, examine
from lunation.settings import load
from rehearsal.judge import Judge
from rehearsal.predefined import ROLES
from rehearsal.project import Project
from rehearsal.recorder import Call
from tests.lunation.rehearsed import PROJECT, Refuses, rehearsed

Defect = Callable[[Project], None]


class TakenBucket(Judge):
    """Somebody else's bucket has the name of one of ours."""

    def __init__(self) -> None:
        self.taken = ""

    def before(self, call: Call) -> None:
        """Cloud Storage does not say whose it is."""
        if call.method == "storage.buckets.get" and self.taken and self.taken in str(call.request):
            raise ServiceError("PERMISSION_DENIED", "does not have storage.buckets.get access to the bucket.")


TAKEN = TakenBucket()


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Project, Patient]]:
    """An empty project in which a deployment would succeed."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    monkeypatch.setattr(TAKEN, "taken", "")
    settings = load()
    with rehearsed(tmp_path, TAKEN) as (stage, clients):
        yield stage.project, Patient(settings, clients, resources(settings, clients.target))
        assert [one.violations for one in stage.notes.violating] == []


def told(patient: Patient) -> dict[str, list[Finding]]:
    """What is found, by check."""
    found: dict[str, list[Finding]] = {}
    for finding in examine(patient):
        found.setdefault(finding.check, []).append(finding)
    return found


def test_a_project_in_which_nothing_is_missing_has_no_finding(patient: tuple[Project, Patient]) -> None:
    """Every check is made, none fails, and nothing is changed; the APIs are off, as they are in a new project."""
    project, examined = patient
    before = dict(project.things)
    found = told(examined)
    assert set(found) == {name for name, _, _ in CHECKS}
    states = {name: {one.state for one in findings} for name, findings in found.items()}
    assert states.pop("credentials") == {"not seen"}  # a project on this machine takes anybody
    assert states.pop("APIs") == {"warning"}
    assert set(map(frozenset, states.values())) == {frozenset({"ok"})}, found
    assert project.things == before


def test_apis_that_are_on_are_told(patient: tuple[Project, Patient]) -> None:
    """Once a deployment has turned them on."""
    _, examined = patient
    for row in examined.rows:
        if isinstance(row, Api):
            row.create(examined.clients)
    (finding,) = told(examined)["APIs"]
    assert finding.state == "ok"


def _policy(name: str, **rule: Any) -> Defect:
    return lambda project: project.surroundings.policies.update({name: [rule]})


def _quota(name: str, limit: float) -> Defect:
    return lambda project: project.surroundings.quotas.update({name: (limit, 0)})


def _set(**attributes: Any) -> Defect:
    def defect(project: Project) -> None:
        for name, value in attributes.items():
            setattr(project.surroundings if hasattr(project.surroundings, name) else project, name, value)

    return defect


def _database(**fields: Any) -> Defect:
    name = f"projects/{PROJECT}/databases/(default)"
    wanted = {"name": name, "type_": "DATASTORE_MODE", "location_id": "us-central1", **fields}
    return lambda project: project.things.update({name: Database.pb(Database(wanted))})


def _bucket(project: Project) -> None:
    TAKEN.taken = f"{project.project}-archive"


NOT_DEFAULT: dict[str, Any] = {"other": {"name": "other", "privateIpGoogleAccess": True}}


@pytest.mark.parametrize(
    ("check", "defect", "words", "fix"),
    [
        ("project", _set(exists=False), "is not there, or", "gcloud projects create"),
        ("project", _set(state="DELETE_REQUESTED"), "is being deleted", "gcloud projects undelete"),
        ("billing", _set(billing=""), "no open billing account", "gcloud billing projects link"),
        (
            "permissions",
            _set(lacks={"logging.notificationRules.create"}),
            "lacks logging.notificationRules.create",
            "--role=roles/logging.configWriter",
        ),
        (
            "organisation policies",
            _policy("iam.disableServiceAccountCreation", enforce=True),
            "refuses the units' service accounts",
            "gcloud org-policies describe iam.disableServiceAccountCreation",
        ),
        (
            "organisation policies",
            _policy("gcp.resourceLocations", values={"allowedValues": ["europe-west1"]}),
            "it does not allow us-central1",
            "administrator",
        ),
        (
            "organisation policies",
            _policy("gcp.restrictServiceUsage", values={"deniedValues": ["dataproc.googleapis.com"]}),
            "it does not allow dataproc.googleapis.com",
            "administrator",
        ),
        (
            "organisation policies",
            _policy("cloudfunctions.allowedIngressSettings", values={"allowedValues": ["ALLOW_INTERNAL_ONLY"]}),
            "it does not allow ALLOW_ALL",
            "administrator",
        ),
        ("organisation policies", _policy("run.allowedIngress", denyAll=True), "it allows nothing", "administrator"),
        ("quotas", _quota("N2_CPUS", 0), "N2_CPUS in us-central1: 0 are free, and 4 are needed", "iam-admin/quotas"),
        ("quotas", _quota("CPUS", 8), "CPUS in us-central1: 8 are free", "iam-admin/quotas"),
        (
            "functions' quotas",
            _set(run_limits={"CpuAllocPerProjectRegion": 10_000}),
            "function/classify with 20 instances takes 20000 of CpuAllocPerProjectRegion",
            "max_instances",
        ),
        ("network", _set(subnetworks=NOT_DEFAULT), "there is no subnetwork default", "gcloud compute networks create"),
        (
            "network",
            _set(subnetworks={"default": {"name": "default"}}),
            "has no Private Google Access",
            "--enable-private-ip-google-access",
        ),
        ("network", _set(routers=[]), "has no Cloud NAT", "gcloud compute routers nats create"),
        (
            "organisation policies",
            _policy("gcp.resourceLocations", values={"deniedValues": ["in:us-locations"]}),
            "it does not allow in:us-locations",
            "administrator",
        ),
        ("database", _database(type_="FIRESTORE_NATIVE"), "of the kind FIRESTORE_NATIVE", "--type=datastore-mode"),
        ("database", _database(location_id="nam5"), "is in nam5, and the target's region is us-central1", "`region`"),
        ("buckets", _bucket, f"gs://{PROJECT}-archive is there, and", "roles/storage.admin is missing"),
    ],
)
def test_each_defect_is_found_with_its_fix(
    patient: tuple[Project, Patient], check: str, defect: Defect, words: str, fix: str
) -> None:
    """By the check that is for it, and by no other."""
    project, examined = patient
    defect(project)
    failed = {name: [one for one in findings if one.state == "failed"] for name, findings in told(examined).items()}
    assert [name for name, findings in failed.items() if findings] == [check]
    found = "; ".join(f"{one.found} -> {one.fix}" for one in failed[check])
    assert words in found
    assert fix in found


def test_without_the_project_nothing_further_is_asked(patient: tuple[Project, Patient]) -> None:
    """Each further check would only say so again."""
    project, examined = patient
    project.exists = False
    assert list(told(examined)) == ["credentials", "project"]


def test_what_cannot_be_looked_at_is_said(patient: tuple[Project, Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that one is not allowed to make is no failure, and no success."""

    def refused(*_: Any) -> None:
        raise ServiceError("PERMISSION_DENIED", "Permission 'resourcemanager.projects.get' denied")

    project, examined = patient
    monkeypatch.setattr(project, "permissions", refused)
    (finding,) = told(examined)["permissions"]
    assert finding.state == "not seen"
    assert "denied" in finding.found


def test_the_role_that_is_named_gives_what_is_missing() -> None:
    """The fix of a missing permission mends it."""
    assert [name for name, role in PERMISSIONS.items() if name not in ROLES[role]] == []


def test_a_group_of_places_that_is_not_known_is_a_warning(patient: tuple[Project, Patient]) -> None:
    """Google says which regions a group holds, and may change that; nobody is sent away for it."""
    project, examined = patient
    project.surroundings.policies = {"gcp.resourceLocations": [{"values": {"allowedValues": ["in:eu-locations"]}}]}
    (finding,) = told(examined)["organisation policies"]
    assert finding.state == "warning"
    assert "in:eu-locations; look whether that holds us-central1" in finding.found


def test_a_limit_of_the_region_goes_before_the_usual_one() -> None:
    """A bucket without dimensions is for what no other bucket is for."""
    usual, own = {"effectiveLimit": "20000"}, {"effectiveLimit": "200000", "dimensions": {"region": "us-central1"}}
    other = {"effectiveLimit": "5", "dimensions": {"region": "europe-west1"}}
    assert _in("us-central1", [usual, own, other]) == 200_000
    assert _in("us-central1", [usual, other]) == 20_000
    assert _in("us-central1", [other]) == -1


def test_a_region_without_a_service_is_told_and_the_rest_is_looked_at(
    patient: tuple[Project, Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one of many findings, and no end of the examination."""

    def elsewhere(self: Api, _: Any) -> None:
        if self.name == "workflows.googleapis.com":
            raise PlaceError("workflows is not in region us-central1. It is in europe-west1")

    _, examined = patient
    monkeypatch.setattr(Api, "read", elsewhere)
    found = told(examined)
    assert [one.state for one in found["APIs"]] == ["failed", "warning"]
    assert list(found)[-1] == "buckets"


def test_a_new_project_whose_apis_are_off_is_examined_all_the_same(tmp_path: Path) -> None:
    """Nothing that is off is taken for missing, or for somebody else's; what cannot be seen yet is said, with the
    command that makes it seen."""
    off = ServiceError(
        "PERMISSION_DENIED",
        "Cloud Resource Manager API has not been used in project 1 before or it is disabled.",
        ErrorInfo(reason="SERVICE_DISABLED", metadata={"service": "cloudresourcemanager.googleapis.com"}),
    )
    judges = [Refuses(method, off) for method in ("GetProject", "TestIamPermissions", "GetDatabase")]
    with rehearsed(tmp_path, *judges) as (_, clients):
        found = told(Patient(load(), clients, resources(load(), clients.target)))
    assert set(found) == {name for name, _, _ in CHECKS}
    assert not [one for findings in found.values() for one in findings if one.state == "failed"]
    for name in ("project", "permissions", "database"):
        assert found[name][0].state == "not seen"
        assert "gcloud services enable cloudresourcemanager.googleapis.com" in found[name][0].fix
