"""What a project lacks before a first deployment, each with its fix. Everything here only reads."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from googleapiclient.errors import HttpError

from lunation.clients import Clients
from lunation.deploy.apis import Api
from lunation.deploy.datastore import Database
from lunation.deploy.deployer import PERMISSIONS
from lunation.deploy.errors import api_is_off
from lunation.deploy.functions import Function
from lunation.deploy.place import PlaceError, check_project
from lunation.deploy.resource import Resource
from lunation.deploy.storage import Bucket
from lunation.settings import Settings

State = Literal["ok", "warning", "failed", "not seen"]
NETWORK = "default"
"""The network that Dataflow and Dataproc take if none is named, and so its subnetwork in the region."""
TESTED_AT_A_TIME = 100
"""https://cloud.google.com/iam/docs/testing-permissions: so many permissions in one call."""


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Args:
        check: what was looked at.
        state: ``warning`` does not stop a deployment; ``not seen`` could not be looked at, and says why.
        found: what there is.
        fix: what to do about it; empty if there is nothing to do.
    """

    check: str
    state: State
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class Patient:
    """What is examined.

    Args:
        settings: with the target's own sizes.
        clients: of the target.
        rows: the table of what would be deployed.
    """

    settings: Settings
    clients: Clients
    rows: Sequence[Resource]

    @property
    def project(self) -> str:
        """The project id."""
        return self.clients.project


Check = Callable[[Patient], Iterator[Finding]]
_OFF = re.compile("SERVICE_DISABLED|has not been used in project|accessNotConfigured")
_SERVICE = re.compile(r"\b[a-z]+\.googleapis\.com\b")


def examine(patient: Patient, say: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """Make every check, in the order in which a deployment would stumble.

    Without credentials, or without the project, nothing further can be seen, and nothing further is asked.

    Args:
        say: told what is being looked at.
    """
    for name, service, check in CHECKS:
        if not patient.clients.target.serves(service):
            yield Finding(name, "not seen", "a laptop has no such service")
            continue
        say(name)
        stop = False
        try:
            for finding in check(patient):
                yield finding
                stop |= finding.state == "failed" and name in NOTHING_WITHOUT
        except (GoogleAPICallError, HttpError) as error:
            yield _unseen(name, error, patient)
        if stop:
            return


def _unseen(name: str, error: GoogleAPICallError | HttpError, patient: Patient) -> Finding:
    """A check that the project does not let be made."""
    text = getattr(error, "reason", None) or getattr(error, "message", None) or str(error)
    off = _OFF.search(str(error))
    if off is not None or (isinstance(error, GoogleAPICallError) and api_is_off(error)):
        told = _SERVICE.search(f"{getattr(error, 'metadata', None) or ''} {text} {error}")
        api = told.group() if told else "the API that it names"
        fix = f"gcloud services enable {api} --project={patient.project}, and run it again"
        return Finding(name, "not seen", f"the API that tells is off: {text}", fix)
    return Finding(name, "not seen", str(text), f"ask the owner of {patient.project} to run this check")


# --- the checks


def _credentials(patient: Patient) -> Iterator[Finding]:
    from google.auth.transport.requests import Request

    if not patient.clients.target.at_google:
        yield Finding("credentials", "not seen", "a project on this machine takes anybody")
        return
    try:
        credentials: Any = patient.clients.credentials
        credentials.refresh(Request())
    except GoogleAuthError as error:
        who = patient.clients.target.impersonate
        acting = f", and roles/iam.serviceAccountTokenCreator on {who}" if who else ""
        yield Finding(
            "credentials", "failed", str(error).split("\n")[0], f"gcloud auth application-default login{acting}"
        )
        return
    yield Finding("credentials", "ok", patient.clients.principal)


def _project(patient: Patient) -> Iterator[Finding]:
    try:
        check_project(patient.clients)
    except PlaceError as error:
        yield Finding("project", "failed", str(error))
        return
    yield Finding("project", "ok", f"{patient.project}, number {patient.clients.project_number}")


def _billing(patient: Patient) -> Iterator[Finding]:
    billing = patient.clients.discovered("cloudbilling", "v1")
    info = billing.projects().getBillingInfo(name=f"projects/{patient.project}").execute()
    if info.get("billingEnabled"):
        yield Finding("billing", "ok", info["billingAccountName"])
        return
    yield Finding(
        "billing",
        "failed",
        "no open billing account pays for the project",
        f"gcloud billing projects link {patient.project} --billing-account=ACCOUNT",
    )


def _apis(patient: Patient) -> Iterator[Finding]:
    off = []
    wanted = [row for row in patient.rows if isinstance(row, Api)]
    for row in wanted:
        try:
            if row.read(patient.clients) is None:
                off.append(row.name)
        except ValueError as error:
            yield Finding("APIs", "failed", str(error))
    if off:
        names = ", ".join(name.partition(".")[0] for name in off)
        yield Finding(
            "APIs", "warning", f"{len(off)} of {len(wanted)} are off, and `lunation deploy` turns them on: {names}"
        )
    else:
        yield Finding("APIs", "ok", f"all {len(wanted)} are on")


def _permissions(patient: Patient) -> Iterator[Finding]:
    granted: set[str] = set()
    wanted = list(PERMISSIONS)
    for first in range(0, len(wanted), TESTED_AT_A_TIME):
        answer = patient.clients.projects.test_iam_permissions(
            resource=f"projects/{patient.project}", permissions=wanted[first : first + TESTED_AT_A_TIME]
        )
        granted.update(answer.permissions)
    missing = {name: role for name, role in PERMISSIONS.items() if name not in granted}
    if not missing:
        yield Finding("permissions", "ok", f"{patient.clients.principal} has all {len(PERMISSIONS)}")
        return
    for role in sorted(set(missing.values())):
        names = ", ".join(sorted(name for name, gives in missing.items() if gives == role))
        yield Finding(
            "permissions",
            "failed",
            f"{patient.clients.principal} lacks {names}",
            f"gcloud projects add-iam-policy-binding {patient.project} --member={patient.clients.principal} "
            f"--role={role}",
        )


def _locations(region: str) -> tuple[str, ...]:
    """The values that allow a region: itself, and the groups that it is in.

    https://cloud.google.com/resource-manager/docs/organization-policy/defining-locations
    """
    return (region, f"in:{region}-locations", f"in:{region.partition('-')[0]}-locations")


@dataclass(frozen=True)
class _Constraint:
    """An organisation policy that would refuse something of ours.

    Args:
        name: without ``constraints/``.
        refuses: what it refuses.
        needs: the values of which one must be allowed, of a list; empty for one that is enforced or not.
        every: whether all values must be allowed, not one of them.
    """

    name: str
    refuses: str
    needs: Callable[[Patient], tuple[str, ...]] = lambda _: ()
    every: bool = False


CONSTRAINTS = (
    _Constraint("iam.disableServiceAccountCreation", "the units' service accounts"),
    _Constraint(
        "gcp.resourceLocations",
        "buckets, functions and the database in the region",
        lambda patient: _locations(patient.clients.target.region),
    ),
    _Constraint(
        "gcp.restrictServiceUsage",
        "the APIs",
        lambda patient: tuple(row.name for row in patient.rows if isinstance(row, Api)),
        every=True,
    ),
    _Constraint(
        "cloudfunctions.allowedIngressSettings",
        "functions that take requests of callers",
        lambda _: ("ALLOW_ALL", "ALLOW_INTERNAL_ONLY"),
        every=True,
    ),
    _Constraint("run.allowedIngress", "functions that take requests of callers", lambda _: ("all", "is:all")),
    _Constraint("cloudfunctions.requireVPCConnector", "functions without a VPC connector"),
    _Constraint("cloudbuild.allowedWorkerPools", "builds in Cloud Build's own pool", lambda _: ("default",)),
)
"""https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints. Not in it, for they refuse
nothing of ours: domain-restricted sharing (``iam.allowedPolicyMemberDomains``; every member that is granted something
is an account of the project's own organisation or an agent of Google's), public access prevention (which our buckets
have), disabled service account keys (there are none), and virtual machines without external addresses (ours have
none)."""


def _policies(patient: Patient) -> Iterator[Finding]:
    service = patient.clients.discovered("orgpolicy", "v2").projects().policies()
    refusing = 0
    for constraint in CONSTRAINTS:
        name = f"projects/{patient.project}/policies/{constraint.name}"
        policy = service.getEffectivePolicy(name=name).execute()
        state, why = _refused(policy.get("spec", {}).get("rules", []), constraint, patient)
        if state != "ok":
            refusing += 1
            verb = "refuses" if state == "failed" else "may refuse"
            yield Finding(
                "organisation policies",
                state,
                f"constraints/{constraint.name} {verb} {constraint.refuses} ({why})",
                f"an exception for {patient.project} is for the organisation's administrator to give: "
                f"gcloud org-policies describe {constraint.name} --project={patient.project} --effective",
            )
    if not refusing:
        yield Finding("organisation policies", "ok", f"none of {len(CONSTRAINTS)} refuses anything of ours")


def _refused(rules: Sequence[dict[str, Any]], constraint: _Constraint, patient: Patient) -> tuple[State, str]:
    """Whether the effective rules refuse something of ours, and what of it, in words."""
    if any(rule.get("enforce") for rule in rules):
        return "failed", "it is enforced"
    needs = constraint.needs(patient)
    if not needs:
        return "ok", ""
    if any(rule.get("denyAll") for rule in rules):
        return "failed", "it allows nothing"
    values = [rule["values"] for rule in rules if "values" in rule]
    denied = {one.removeprefix("is:") for some in values for one in some.get("deniedValues", ())}
    allowed = {one.removeprefix("is:") for some in values for one in some.get("allowedValues", ())}
    refused = [one for one in needs if one in denied]
    if not refused and allowed:
        refused = [one for one in needs if one not in allowed]
        if not constraint.every and len(refused) < len(needs):
            refused = []
    if not refused:
        return "ok", ""
    groups = sorted(one for one in allowed if ":" in one)
    if groups and not denied & set(needs):
        return "warning", f"it allows {', '.join(groups)}; look whether that holds {refused[0]}"
    return "failed", f"it does not allow {', '.join(refused)}"


def _needs(patient: Patient) -> dict[str, tuple[float, str]]:
    """What the virtual machines take of the region's quotas, by the quota's name, and who takes it."""
    workers = patient.settings.archive.max_workers
    # A worker of a streaming job is an n1-standard-2 or -4 with a disk of 30 GB, and a job's update runs beside the old
    # one: https://cloud.google.com/dataflow/docs/guides/configure-worker-vm
    return {
        "CPUS": (4 * workers + 2, f"up to {workers} workers of the archive job, and its launcher"),
        "N2_CPUS": (4, "the training cluster, n2-standard-4"),
        "SSD_TOTAL_GB": (100, "the training cluster's disk"),
        "DISKS_TOTAL_GB": (30 * workers + 10, "the archive job's disks"),
        "INSTANCES": (workers + 2, "the archive job and the training cluster"),
    }


def _quotas(patient: Patient) -> Iterator[Finding]:
    region = patient.clients.target.region
    found = patient.clients.discovered("compute", "v1").regions().get(project=patient.project, region=region).execute()
    quotas = {quota["metric"]: quota["limit"] - quota["usage"] for quota in found.get("quotas", [])}
    short = 0
    for metric, (needed, who) in _needs(patient).items():
        free = quotas.get(metric, math.inf)
        if free < needed:
            short += 1
            yield Finding(
                "quotas",
                "failed",
                f"{metric} in {region}: {free:g} are free, and {needed:g} are needed by {who}",
                f"ask for more: https://console.cloud.google.com/iam-admin/quotas?project={patient.project}",
            )
    if not short:
        yield Finding("quotas", "ok", f"the virtual machines of {region} fit: {', '.join(_needs(patient))}")


def _in(region: str, buckets: Sequence[dict[str, Any]]) -> int:
    """A limit in a region; -1 is none. A bucket without dimensions is for what no other one is for."""
    own = [one for one in buckets if one.get("dimensions", {}).get("region") == region]
    usual = [one for one in buckets if not one.get("dimensions")]
    return next((int(one["effectiveLimit"]) for one in (*own, *usual)), -1)


def _run_quotas(patient: Patient) -> Iterator[Finding]:
    """A function is refused whose instances together could take more of the region than the project may have.

    Seen in https://github.com/firebase/firebase-tools/pull/5867 and googlecodelabs/feedback#1856, with the limits'
    names.
    """
    region = patient.clients.target.region
    service = patient.clients.discovered("serviceusage", "v1beta1").services().consumerQuotaMetrics()
    answer = service.list(parent=f"projects/{patient.project}/services/run.googleapis.com", pageSize=200).execute()
    limits: dict[str, int] = {}
    for metric in answer.get("metrics", []):
        for limit in metric.get("consumerQuotaLimits", []):
            for kind in ("CpuAllocPerProjectRegion", "MemAllocPerProjectRegion"):
                if kind.lower() in f"{limit.get('name')}{limit.get('metric')}".replace("_", "").lower():
                    limits[kind] = _in(region, limit.get("quotaBuckets", []))
    if not limits:
        quotas = f"https://console.cloud.google.com/iam-admin/quotas?project={patient.project}"
        yield Finding("functions' quotas", "not seen", "Cloud Run tells no limit of CPU or memory", f"look: {quotas}")
        return
    short = 0
    for row in patient.rows:
        if not isinstance(row, Function):
            continue
        size = row.size
        amount, unit = int(size.memory[:-2]), size.memory[-2:]
        wanted = {
            "CpuAllocPerProjectRegion": size.max_instances * float(size.cpu) * 1000,
            "MemAllocPerProjectRegion": size.max_instances * amount * (2**30 if unit == "Gi" else 2**20),
        }
        for kind, limit in limits.items():
            if 0 <= limit < wanted[kind]:
                short += 1
                yield Finding(
                    "functions' quotas",
                    "failed",
                    f"{row.address} with {size.max_instances} instances takes {wanted[kind]:g} of {kind}, and "
                    f"{region} gives {limit:g}",
                    f"lower max_instances of [targets.….functions.{row.name.replace('-', '_')}] in lunation.toml",
                )
    if not short:
        yield Finding("functions' quotas", "ok", "the largest number of instances of each function fits")


def _network(patient: Patient) -> Iterator[Finding]:
    region = patient.clients.target.region
    compute = patient.clients.discovered("compute", "v1")
    where = {"project": patient.project, "region": region}
    try:
        subnetwork = compute.subnetworks().get(subnetwork=NETWORK, **where).execute()
    except HttpError as error:
        if error.status_code != 404:
            raise
        yield Finding(
            "network",
            "failed",
            f"there is no subnetwork {NETWORK} in {region}, which the archive job and the training cluster take",
            f"gcloud compute networks create {NETWORK} --subnet-mode=auto --project={patient.project}",
        )
        return
    if not subnetwork.get("privateIpGoogleAccess"):
        yield Finding(
            "network",
            "failed",
            f"subnetwork {NETWORK} in {region} has no Private Google Access, and the machines have no external address",
            f"gcloud compute networks subnets update {NETWORK} --region={region} --enable-private-ip-google-access "
            f"--project={patient.project}",
        )
    routers = compute.routers().list(**where).execute().get("items", [])
    if not any(router.get("nats") for router in routers if router["network"].endswith(f"/{NETWORK}")):
        yield Finding(
            "network",
            "failed",
            f"network {NETWORK} has no Cloud NAT in {region}: the training cluster cannot install its packages",
            f"gcloud compute routers create lunation --network={NETWORK} --region={region} --project={patient.project} "
            f"&& gcloud compute routers nats create lunation --router=lunation --region={region} "
            f"--nat-all-subnet-ip-ranges --auto-allocate-nat-external-ips --project={patient.project}",
        )
    elif subnetwork.get("privateIpGoogleAccess"):
        yield Finding("network", "ok", f"{NETWORK} in {region}: Private Google Access and Cloud NAT")


def _database(patient: Patient) -> Iterator[Finding]:
    yield from _as_rows_say("database", patient, Database)


def _buckets(patient: Patient) -> Iterator[Finding]:
    yield from _as_rows_say("buckets", patient, Bucket)


def _as_rows_say(check: str, patient: Patient, kind: type[Resource]) -> Iterator[Finding]:
    """Whether what keeps data can become what is declared, which a plan would be stopped by."""
    told = []
    for row in patient.rows:
        if not isinstance(row, kind):
            continue
        try:
            actual = row.read(patient.clients)
            if actual is not None:
                row.differences(patient.clients, actual)
        except ValueError as error:
            yield Finding(check, "failed", str(error))
        else:
            told.append(f"{row.name} {'is not there yet' if actual is None else 'is ours'}")
    if told:
        yield Finding(check, "ok", ", ".join(told))


CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("credentials", "resourcemanager", _credentials),
    ("project", "resourcemanager", _project),
    ("billing", "cloudbilling", _billing),
    ("APIs", "serviceusage", _apis),
    ("permissions", "resourcemanager", _permissions),
    ("organisation policies", "orgpolicy", _policies),
    ("quotas", "compute", _quotas),
    ("functions' quotas", "serviceusage", _run_quotas),
    ("network", "compute", _network),
    ("database", "firestore", _database),
    ("buckets", "storage", _buckets),
)
"""``(name, service that it asks, check)``, in order."""
NOTHING_WITHOUT = frozenset({"credentials", "project"})
"""Checks that end the examination when they fail."""
