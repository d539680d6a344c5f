"""What a deployment costs a month, by resource: an estimate from list prices at the volumes in lunation.toml.

Only what is large enough to see is counted. Free tiers are not: a project has them once, and may use them elsewhere.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lunation.deploy.resource import Resource
from lunation.settings import Settings

DATE = "2025-07-01"
"""Of which time the list prices are, as far as was known without a network: they were not compared with the pages that
they name, and are to be before anybody relies on them. Region us-central1, US dollars, without discounts."""
DAYS = 30.4
GIB = 1024**3


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
    "datastore-reads": Price(0.03, "100,000 entity reads", "https://cloud.google.com/datastore/pricing"),
    "datastore-deletes": Price(
        0.01, "100,000 entity deletes (time to live)", "https://cloud.google.com/datastore/pricing"
    ),
    "datastore-storage": Price(0.15, "GiB and month", "https://cloud.google.com/datastore/pricing"),
    "functions-requests": Price(0.40, "million requests", "https://cloud.google.com/run/pricing"),
    "functions-cpu": Price(0.000024, "vCPU second", "https://cloud.google.com/run/pricing"),
    "functions-memory": Price(0.0000025, "GiB second", "https://cloud.google.com/run/pricing"),
    "dataflow-cpu": Price(0.069, "vCPU hour, streaming", "https://cloud.google.com/dataflow/pricing"),
    "dataflow-memory": Price(0.003557, "GB hour", "https://cloud.google.com/dataflow/pricing"),
    "dataflow-data": Price(0.018, "GB through the streaming engine", "https://cloud.google.com/dataflow/pricing"),
    "dataproc": Price(0.010, "vCPU hour, on top of the machine", "https://cloud.google.com/dataproc/pricing"),
    "n2-standard-4": Price(0.1942, "hour", "https://cloud.google.com/compute/vm-instance-pricing"),
    "workflows": Price(0.01, "1,000 internal steps", "https://cloud.google.com/workflows/pricing"),
    "scheduler": Price(0.10, "job and month", "https://cloud.google.com/scheduler/pricing"),
    "artifact-registry": Price(0.10, "GB and month", "https://cloud.google.com/artifact-registry/pricing"),
    "cloud-build": Price(0.006, "build minute", "https://cloud.google.com/build/pricing"),
    "alert-conditions": Price(0.10, "condition and month", "https://cloud.google.com/stackdriver/pricing"),
    "nothing": Price(0.0, "free", "https://cloud.google.com/free/docs/free-cloud-features"),
}


@dataclass(frozen=True)
class Cost:
    """What one resource costs a month.

    Args:
        address: of the resource.
        usd: the estimate.
        why: how it comes about.
    """

    address: str
    usd: float
    why: str


Estimate = Callable[[Any, Settings], tuple[float, str]]


def _messages(settings: Settings, topic: str) -> tuple[float, float]:
    """Messages a month, and bytes of one."""
    volumes = settings.volumes
    each = {
        "records": (volumes.records_per_day, volumes.record_bytes),
        "labels": (volumes.labels_per_day, 150),
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
        return PRICES["storage"].usd, "less than a gigabyte"
    volumes = settings.volumes
    year = (volumes.records_per_day * volumes.record_bytes + volumes.labels_per_day * 150) * 365
    # JSON, and Parquet of about a quarter of it.
    gigabytes = 1.25 * year / 1e9
    objects = 2 * DAYS * 24 * 3600 / settings.archive.window_seconds
    usd = gigabytes * PRICES["storage"].usd + objects / 1000 * PRICES["storage-writes"].usd
    return usd, f"after a year: {gigabytes:,.0f} GB kept; {objects:,.0f} objects a month written"


def _database(row: Any, settings: Settings) -> tuple[float, str]:
    volumes = settings.volumes
    a_month = volumes.records_per_day * DAYS
    writes = 2 * a_month  # Record and Classification
    kept = volumes.records_per_day * settings.records.ttl_days * (volumes.record_bytes + 500)
    answers = volumes.records_per_day * 365 * 800
    usd = (
        writes / 1e5 * PRICES["datastore-writes"].usd
        + a_month / 1e5 * PRICES["datastore-deletes"].usd
        + (kept + answers) / GIB * PRICES["datastore-storage"].usd
    )
    return usd, f"{writes / 1e6:.0f} million writes; after a year {(kept + answers) / GIB:,.0f} GiB kept"


def _function(row: Any, settings: Settings) -> tuple[float, str]:
    size = row.size
    requests = 0.0 if row.name in ("classify-http", "submit") else settings.volumes.records_per_day * DAYS
    memory = float(size.memory[:-2]) / (1024 if size.memory.endswith("Mi") else 1)
    # An instance is billed while it has any request. Assumed: 20 ms for a push, with its commit at Google's Datastore,
    # and that pushes do not overlap, which makes it dearer than it will be.
    seconds = min(requests * 0.02, DAYS * 24 * 3600 * size.max_instances)
    seconds += size.min_instances * DAYS * 24 * 3600 * 0.1  # idle, at a tenth of the price
    usd = (
        requests / 1e6 * PRICES["functions-requests"].usd
        + seconds * float(size.cpu) * PRICES["functions-cpu"].usd
        + seconds * memory * PRICES["functions-memory"].usd
    )
    return usd, f"{requests / 1e6:.1f} million requests of 20 ms, {size.min_instances} instances always there"


def _dataflow(row: Any, settings: Settings) -> tuple[float, str]:
    hours = DAYS * 24
    volumes = settings.volumes
    gigabytes = (volumes.records_per_day * volumes.record_bytes + volumes.labels_per_day * 150) * DAYS / 1e9
    # One n1-standard-2 worker around the clock: 2 vCPU, 7.5 GB.
    usd = hours * (2 * PRICES["dataflow-cpu"].usd + 7.5 * PRICES["dataflow-memory"].usd)
    return usd + gigabytes * PRICES["dataflow-data"].usd, f"one worker around the clock, {gigabytes:,.0f} GB"


def _template(row: Any, settings: Settings) -> tuple[float, str]:
    runs = 365.25 / 28 / 12
    hours = runs * settings.volumes.training_hours
    usd = hours * (PRICES["n2-standard-4"].usd + 4 * PRICES["dataproc"].usd)
    return usd, f"{runs:.1f} trainings of {settings.volumes.training_hours:g} h on n2-standard-4"


def _workflow(row: Any, settings: Settings) -> tuple[float, str]:
    steps = 4.35 * 10 + 1.09 * (100 + 1800 * settings.volumes.training_hours * 3)
    return steps / 1000 * PRICES["workflows"].usd, f"{steps:,.0f} steps, most of them polls"


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


def estimate(rows: Iterable[Resource], settings: Settings) -> list[Cost]:
    """What each row costs a month, dearest first; what is free is left out.

    Raises:
        KeyError: a kind without a price.
    """
    costs = [Cost(row.address, *ESTIMATES[row.kind](row, settings)) for row in rows]
    return sorted((cost for cost in costs if cost.usd >= 0.005), key=lambda cost: -cost.usd)
