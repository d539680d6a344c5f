"""What a unit is: something that runs, as whom, and what it may do.

A unit has a service account and, for what can only be granted on a project, a custom role with exactly the permissions
that it uses; a predefined one where that gives no more. What can be granted on a single bucket, topic, subscription,
account or function is granted there.
``python -m rehearsal`` records the calls of each unit and holds them against all of this, in both directions.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lunation.deploy.access import Condition
from lunation.settings import Target

METRICS_WRITER = ("roles/telemetry.metricsWriter", "exports its metrics")
"""What that takes had a permission of its own and has another one now (it is ``monitoring.timeSeries.create`` since
2026: https://cloud.google.com/iam/docs/roles-permissions/telemetry). Google keeps the role up to date, not us."""


@dataclass(frozen=True)
class Permit:
    """A role that a unit has on one resource.

    Args:
        role: ``roles/…``, or the id of one of :data:`lunation.deploy.stack.grants.SHARED_ROLES`.
        why: what the unit does with it, in half a sentence.
        condition: None holds always.
    """

    role: str
    why: str
    condition: Condition | None = None


def _none(target: Target) -> dict[str, Permit]:
    """For a unit that has nothing on a single resource."""
    return {}


@dataclass(frozen=True)
class Unit:
    """One of them.

    Args:
        name: its service account is ``lunation-<name>``.
        purpose: what it does, in half a sentence.
        uses: permissions that its own calls need and that only a project can grant.
        platform: permissions that Google's own agent needs, which runs beside it on the unit's machines.
        roles: predefined roles that are small enough, with what the unit does by them, on the project.
        permits: gives what it may do on single resources of a target, by the address of the resource's row.
    """

    name: str
    purpose: str
    uses: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    permits: Callable[[Target], dict[str, Permit]] = _none

    @property
    def role_id(self) -> str:
        """The id of its custom role."""
        return "lunation" + "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def permissions(self) -> tuple[str, ...]:
        """What its custom role gives; empty for a unit that needs none."""
        return (*self.uses, *self.platform)
