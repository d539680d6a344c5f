"""A command that deploys a table of four rows, and prints what it does as ``lunation deploy`` would.

``python -m tests.rehearsal.small_table deploy``; another word makes its second row one that is badly made.
"""

import sys
from collections.abc import Sequence

from lunation.clients import Clients
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.monitoring import AlertPolicy, logged
from lunation.deploy.plan import apply, plan
from lunation.deploy.resource import Resource
from lunation.settings import load


class Forgotten(AlertPolicy):
    """Does not find what it has made, so each run makes another one."""

    def read(self, clients: Clients) -> None:
        """Nothing, ever."""


class Stubborn(AlertPolicy):
    """Does not look for what is there, and fails because of it."""

    needed_by_none = False

    def read(self, clients: Clients) -> None:
        """Nothing, ever."""

    def create(self, clients: Clients) -> None:
        """Make it, once."""
        if super().read(clients) is not None:
            raise ValueError("it is there already")
        super().create(clients)


class Idle(CustomRole):
    """Is made by nothing."""

    def create(self, clients: Clients) -> None:
        """Nothing."""


def alert(kind: type[AlertPolicy], name: str) -> AlertPolicy:
    """An alert."""
    return kind(name, condition=logged("severity=ERROR"), advice="Look.", channel=None)


SECOND: dict[str, Resource] = {
    "deploy": alert(AlertPolicy, "second"),
    "forgotten": alert(Forgotten, "second"),
    "stubborn": alert(Stubborn, "second"),
    "idle": Idle("lunationSecond", ("storage.objects.get",), "is never made"),
}


def rows(word: str) -> Sequence[Resource]:
    """The table."""
    return [
        ServiceAccount("first", "comes first"),
        SECOND[word],
        CustomRole("lunationThird", ("storage.objects.get",), "comes third"),
        alert(AlertPolicy, "fourth"),
    ]


def main() -> None:
    """Plan, print the plan, do it, print what is done."""
    clients = Clients(load().target("production"))
    changes = plan(rows(sys.argv[2]), clients)
    for change in changes:
        print("+", change.address, " and why")
    print(f"{len(changes)} to create, 0 to change, 0 to replace, 0 to delete, 0 unchanged.")
    apply(rows(sys.argv[2]), clients, lambda change: print("+", change.address, flush=True))


if __name__ == "__main__":
    main()
