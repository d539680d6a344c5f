"""What both cost a month, by list prices; Pub/Sub, storage and logging, which both need alike, are left out.

Prices: us-central1, US dollars, list prices as published, read 2026-11-25.
https://cloud.google.com/run/pricing (functions, billed by request), https://cloud.google.com/compute/vm-instance-pricing
and https://cloud.google.com/dataproc/pricing (a cluster that runs all the time).
"""

SECONDS_A_MONTH = 730 * 3600
VOLUMES = (1.0, 100.0, 1000.0)
"""Records a second, on average."""

REQUEST = 0.40e-6
VCPU_SECOND = 0.000024
GIB_SECOND = 0.0000025
FUNCTION_GIB = 0.5
BILLED_STEP_SECONDS = 0.1
"""An instance is billed while it has a request, in steps of 100 ms."""

MACHINE_HOUR = 0.1942
"""n2-standard-4: 4 vCPU, 16 GB; Spark needs a driver and its Java, and headroom for a restart."""
MACHINE_VCPUS = 4
DATAPROC_VCPU_HOUR = 0.010


def function(per_second: float, busy_seconds: float) -> float:
    """The function, at one vCPU, free tier not counted.

    Records that come evenly spread are billed a step of 100 ms each while they are rare; from ten a second on one
    instance is billed without a pause. More instances are needed where the processor time of the records is more than
    one processor has: at most 60 % of it is counted on.

    Args:
        per_second: records a second.
        busy_seconds: processor time a record.
    """
    instances = max(1.0, per_second * busy_seconds / 0.6)
    active = min(1.0, per_second * BILLED_STEP_SECONDS) * instances
    rate = VCPU_SECOND + FUNCTION_GIB * GIB_SECOND
    return SECONDS_A_MONTH * (active * rate + per_second * REQUEST)


def streaming(per_second: float) -> float:
    """A single-node cluster that never stops. It does for all of the volumes measured here."""
    return 730 * (MACHINE_HOUR + MACHINE_VCPUS * DATAPROC_VCPU_HOUR)
