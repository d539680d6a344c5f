"""What both cost a month, by the list prices of ``lunation.deploy.costs``.

Pub/Sub, storage and logging, which both need alike, are left out; so are free tiers.
"""

from lunation.deploy.costs import DAYS, PRICES

HOURS = DAYS * 24
VOLUMES = (1.0, 100.0, 1000.0)
"""Records a second, on average."""
FUNCTION_GIB = 0.5
BILLED_STEP_SECONDS = 0.1
"""An instance is billed while it has a request, in steps of 100 ms."""
BUSY_SHARE = 0.6
"""Of an instance's processor time that is counted on."""
MACHINE_VCPUS = 4


def function(per_second: float, busy_seconds: float) -> float:
    """The function, in instances of one vCPU, billed by request.

    Records that come evenly spread are billed a step of 100 ms each while they are rare; from ten a second on one
    instance is billed without a pause.

    Args:
        per_second: records a second, each a request of its own, as Pub/Sub pushes them.
        busy_seconds: processor time a record.
    """
    instances = max(1.0, per_second * busy_seconds / BUSY_SHARE)
    active = min(1.0, per_second * BILLED_STEP_SECONDS) * instances
    second = PRICES["functions-cpu"].usd + FUNCTION_GIB * PRICES["functions-memory"].usd
    return HOURS * 3600 * (active * second + per_second * PRICES["functions-requests"].usd / 1e6)


def streaming() -> float:
    """A single-node cluster that never stops. It does for all of the volumes measured here."""
    return HOURS * (PRICES["n2-standard-4"].usd + MACHINE_VCPUS * PRICES["dataproc"].usd)


def even(busy_seconds: float) -> float:
    """Records a second from which on the streaming job is the cheaper one."""
    low, high = 0.0, 1e6
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle, busy_seconds) < streaming() else (low, middle)
    return high
