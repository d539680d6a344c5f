"""What a deployment costs a month, by resource: an estimate from list prices at the volumes in lunation.toml.

Only what is large enough to see is counted. Free tiers are not: a project has them once, and may use them elsewhere.
What is paid for and is no row of the table stands beside it (:data:`BESIDE`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lunation.deploy.resource import Resource
from lunation.settings import Settings

DATE = "2025-07-01"
"""Of which time the list prices are, as far as was known without a network: they were not compared with the pages that
they name, and are to be before anybody relies on them. (Those of Cloud NAT and of Logging were read in stored copies of
their pages.) Region us-central1, US dollars, without discounts."""
DAYS = 30.4
HOURS = 24 * DAYS
GIB = 1024**3
LABEL_BYTES = 150
REPLACED_DAYS = 30 + 7
"""How long what was replaced or deleted in a versioned bucket is paid for: as an older version, then soft-deleted."""


@dataclass(frozen=True)
class Price:
    """One list price.

    Args:
        usd: for one unit.
        unit: of what.
        source: the page that says so.
    """

    usd: float
    unit: str
    source: str


PRICES: dict[str, Price] = {
    "pubsub": Price(40.0, "TiB published or delivered", "https://cloud.google.com/pubsub/pricing"),
    "storage": Price(0.020, "GB and month, Standard", "https://cloud.google.com/storage/pricing"),
    "storage-writes": Price(0.005, "1,000 class A operations", "https://cloud.google.com/storage/pricing"),
    "datastore-writes": Price(0.09, "100,000 entity writes", "https://cloud.google.com/datastore/pricing"),
    "datastore-deletes": Price(
        0.01, "100,000 entity deletes (time to live)", "https://cloud.google.com/datastore/pricing"
    ),
    "datastore-storage": Price(0.15, "GiB and month", "https://cloud.google.com/datastore/pricing"),
    "datastore-recovery": Price(
        0.15, "GiB of the database and month, point-in-time recovery", "https://cloud.google.com/firestore/pricing"
    ),
    "functions-requests": Price(0.40, "million requests", "https://cloud.google.com/run/pricing"),
    "functions-cpu": Price(0.000024, "vCPU second", "https://cloud.google.com/run/pricing"),
    "functions-memory": Price(0.0000025, "GiB second", "https://cloud.google.com/run/pricing"),
    "dataflow-cpu": Price(0.069, "vCPU hour, streaming", "https://cloud.google.com/dataflow/pricing"),
    "dataflow-memory": Price(0.003557, "GB hour", "https://cloud.google.com/dataflow/pricing"),
    "dataflow-data": Price(0.018, "GB through the streaming engine", "https://cloud.google.com/dataflow/pricing"),
    "dataflow-disk": Price(0.000054, "GB hour, standard disk", "https://cloud.google.com/dataflow/pricing"),
    "dataproc": Price(0.010, "vCPU hour, on top of the machine", "https://cloud.google.com/dataproc/pricing"),
    "n2-standard-4": Price(0.1942, "hour", "https://cloud.google.com/compute/vm-instance-pricing"),
    "pd-balanced": Price(0.10, "GB and month", "https://cloud.google.com/compute/disks-image-pricing"),
    "nat-machines": Price(0.0014, "hour of a machine that uses the gateway", "https://cloud.google.com/nat/pricing"),
    "nat-address": Price(0.005, "hour of an external address", "https://cloud.google.com/nat/pricing"),
    "nat-data": Price(0.045, "GiB in or out", "https://cloud.google.com/nat/pricing"),
    "logging": Price(0.50, "GiB, with 30 days of storage", "https://cloud.google.com/stackdriver/pricing"),
    "workflows": Price(0.01, "1,000 internal steps", "https://cloud.google.com/workflows/pricing"),
    "scheduler": Price(0.10, "job and month", "https://cloud.google.com/scheduler/pricing"),
    "artifact-registry": Price(0.10, "GB and month", "https://cloud.google.com/artifact-registry/pricing"),
    "cloud-build": Price(0.006, "build minute", "https://cloud.google.com/build/pricing"),
    "alert-conditions": Price(0.10, "condition and month", "https://cloud.google.com/stackdriver/pricing"),
}


@dataclass(frozen=True)
class Cost:
    """What one resource costs a month.

    Args:
        address: of the resource; of what is no row, its name.
        usd: the estimate.
        why: how it comes about.
    """

    address: str
    usd: float
    why: str


Estimate = Callable[[Any, Settings], tuple[float, str]]


def _trainings(settings: Settings) -> float:
    """How many a month."""
    return 365.25 / settings.schedule.cycle_days / 12


def _gigabytes_a_day(settings: Settings) -> float:
    """What the archive takes in."""
    volumes = settings.volumes
    return (volumes.records_per_day * volumes.record_bytes + volumes.labels_per_day * LABEL_BYTES) / 1e9


def _messages(settings: Settings, topic: str) -> tuple[float, float]:
    """Messages a month, and bytes of one."""
    volumes = settings.volumes
    each = {
        "records": (volumes.records_per_day, volumes.record_bytes),
        "labels": (volumes.labels_per_day, LABEL_BYTES),
        "classifications": (volumes.records_per_day, 350),
    }
    number, size = each.get(topic, (0, 0))
    return number * DAYS, max(size, 1000)  # Pub/Sub bills at least 1,000 bytes a request


def _throughput(settings: Settings, topic: str) -> float:
    number, size = _messages(settings, topic)
    return number * size / 1024**4 * PRICES["pubsub"].usd


def _topic(row: Any, settings: Settings) -> tuple[float, str]:
    number, _ = _messages(settings, row.name)
    return _throughput(settings, row.name), f"{number / 1e6:.1f} million messages published"


def _subscription(row: Any, settings: Settings) -> tuple[float, str]:
    topic = row.topic
    number, _ = _messages(settings, topic)
    return _throughput(settings, topic), f"{number / 1e6:.1f} million messages of {topic} delivered"


def _bucket(row: Any, settings: Settings) -> tuple[float, str]:
    if not row.name.endswith("-archive"):
        return 2 * PRICES["storage"].usd, "less than a gigabyte, and as much of what was deleted in the last week"
    daily = _gigabytes_a_day(settings)
    # JSON, and Parquet of about a quarter of it. Each training writes some days of Parquet again (assumed: seven).
    gigabytes = 1.25 * daily * 365
    replaced = 0.25 * daily * 7 * _trainings(settings) * REPLACED_DAYS / DAYS
    objects = 2 * HOURS * 3600 / settings.archive.window_seconds
    usd = (gigabytes + replaced) * PRICES["storage"].usd + objects / 1000 * PRICES["storage-writes"].usd
    return usd, (
        f"after a year: {gigabytes:,.0f} GB kept, {replaced:,.1f} GB replaced or soft-deleted; {objects:,.0f} objects "
        "a month written"
    )


def _database(row: Any, settings: Settings) -> tuple[float, str]:
    volumes = settings.volumes
    a_month = volumes.records_per_day * DAYS
    writes = 2 * a_month  # Record and Classification
    records = volumes.records_per_day * settings.records.ttl_days * (volumes.record_bytes + 500)
    answers = volumes.records_per_day * 365 * 800
    gibibytes = (records + answers) / GIB
    # Point-in-time recovery is billed by the size of the database: https://cloud.google.com/firestore/docs/pitr
    usd = (
        writes / 1e5 * PRICES["datastore-writes"].usd
        + a_month / 1e5 * PRICES["datastore-deletes"].usd
        + gibibytes * (PRICES["datastore-storage"].usd + PRICES["datastore-recovery"].usd)
    )
    return usd, (
        f"{writes / 1e6:.0f} million writes; after a year {gibibytes:,.0f} GiB kept, and as much for point-in-time "
        "recovery"
    )


def _function(row: Any, settings: Settings) -> tuple[float, str]:
    size = row.size
    requests = 0.0 if row.name in ("classify-http", "submit") else settings.volumes.records_per_day * DAYS
    # An instance is billed while it has any request. Assumed: 20 ms for a push, with its commit at Google's Datastore,
    # and that pushes do not overlap, which makes it dearer than it will be.
    seconds = min(requests * 0.02, HOURS * 3600 * size.max_instances)
    seconds += size.min_instances * HOURS * 3600 * 0.1  # idle, at a tenth of the price
    # Cloud Run logs each request by itself; assumed: 1,000 bytes. What the function says is next to nothing beside it.
    logged = requests * 1000 / GIB
    usd = (
        requests / 1e6 * PRICES["functions-requests"].usd
        + seconds * float(size.cpu) * PRICES["functions-cpu"].usd
        + seconds * size.memory_mib / 1024 * PRICES["functions-memory"].usd
        + logged * PRICES["logging"].usd
    )
    return usd, (
        f"{requests / 1e6:.1f} million requests of 20 ms, {logged:,.0f} GiB of their log, {size.min_instances} "
        "instances always there"
    )


def _dataflow(row: Any, settings: Settings) -> tuple[float, str]:
    gigabytes = _gigabytes_a_day(settings) * DAYS
    # One n1-standard-2 worker around the clock: 2 vCPU, 7.5 GB, and with the Streaming Engine 30 GB of disk.
    worker = 2 * PRICES["dataflow-cpu"].usd + 7.5 * PRICES["dataflow-memory"].usd + 30 * PRICES["dataflow-disk"].usd
    usd = HOURS * worker
    return usd + gigabytes * PRICES["dataflow-data"].usd, f"one worker around the clock, {gigabytes:,.0f} GB"


def _template(row: Any, settings: Settings) -> tuple[float, str]:
    runs = _trainings(settings)
    hours = runs * settings.volumes.training_hours
    # With the 100 GB of disk of spark/template.yaml.
    usd = hours * (PRICES["n2-standard-4"].usd + 4 * PRICES["dataproc"].usd + 100 * PRICES["pd-balanced"].usd / HOURS)
    return usd, f"{runs:.1f} trainings of {settings.volumes.training_hours:g} h on n2-standard-4"


def _workflow(row: Any, settings: Settings) -> tuple[float, str]:
    # A firing is some 20 steps, a training 120 and 8 a poll: every two seconds for five minutes, then every fifteen.
    polls = 150 + max(0.0, settings.volumes.training_hours * 3600 - 300) / 15
    steps = DAYS / 7 * 20 + _trainings(settings) * (120 + 8 * polls)
    return steps / 1000 * PRICES["workflows"].usd, f"{steps:,.0f} steps, most of them polls"


def _nat(settings: Settings) -> tuple[float, str]:
    # The machines of the subnetwork have no addresses of their own, so each gets a place at the gateway, whether it
    # needs one or not: Dataflow's worker, and the cluster, which installs its packages through it (assumed: 1 GiB).
    runs = _trainings(settings)
    machines = HOURS + runs * settings.volumes.training_hours
    usd = (
        machines * PRICES["nat-machines"].usd + HOURS * PRICES["nat-address"].usd + runs * 1.0 * PRICES["nat-data"].usd
    )
    return (
        usd,
        "the cluster's way out, made by hand (docs/deploy.md): an address, and what passes when packages are installed",
    )


def _flat(usd: float, why: str) -> Estimate:
    return lambda row, settings: (usd, why)


FREE = _flat(0.0, "free")
ESTIMATES: dict[str, Estimate] = {
    "api": FREE,
    "service-agents": FREE,
    "service-account": FREE,
    "role": FREE,
    "access": FREE,
    "bucket": _bucket,
    "file": _flat(0.0, "counted with its bucket"),
    "repository": _flat(20 * PRICES["artifact-registry"].usd, "some 20 GB of images"),
    "image": _flat(10 * PRICES["cloud-build"].usd, "a build of ten minutes, once a release"),
    "schema": FREE,
    "topic": _topic,
    "subscription": _subscription,
    "database": _database,
    "ttl": _flat(0.0, "its deletes are counted with the database"),
    "index": _flat(0.0, "counted with the database"),
    "function": _function,
    "dataflow-job": _dataflow,
    "workflow-template": _template,
    "workflow": _workflow,
    "scheduler-job": _flat(PRICES["scheduler"].usd, "one job"),
    "notification-channel": FREE,
    "alert": _flat(PRICES["alert-conditions"].usd, "one condition"),
    "dashboard": FREE,
}
"""By kind. A kind that is not in it has no price, and a test fails."""


BESIDE: dict[str, tuple[str, Callable[[Settings], tuple[float, str]]]] = {
    "Cloud NAT": ("workflow-template", _nat),
}
"""What is paid for without being a row, with the kind of the row that needs it."""


def estimate(rows: Iterable[Resource], settings: Settings) -> list[Cost]:
    """What each row costs a month, and what it needs beside the table, dearest first; what is free is left out.

    Raises:
        KeyError: a kind without a price.
    """
    rows = list(rows)
    costs = [Cost(row.address, *ESTIMATES[row.kind](row, settings)) for row in rows]
    kinds = {row.kind for row in rows}
    costs += [Cost(name, *beside(settings)) for name, (needed_by, beside) in BESIDE.items() if needed_by in kinds]
    return sorted((cost for cost in costs if cost.usd >= 0.005), key=lambda cost: -cost.usd)
