"""What the documents tell an engineer to make by hand before the first deployment: accounts, and their roles.

The commands are read from the documents themselves, so what is rehearsed is what is written there: ``gcloud projects
add-iam-policy-binding PROJECT --role=roles/A --member=serviceAccount:NAME@…``, or the same with ``--role=roles/$role``
in a loop ``for role in A B; do … done``.
"""

import re
from pathlib import Path

from google.iam.v1 import policy_pb2

from lunation.settings import ROOT
from rehearsal.project import Project

DEPLOYER = "lunation-deployer"
"""Whom people and CI deploy as, by docs/deploy.md."""

PLANNER = "lunation-planner"
"""Whom CI plans as on a pull request, by docs/ci/: it may only look."""

WHERE = {DEPLOYER: ROOT / "docs" / "deploy.md", PLANNER: ROOT / "docs" / "ci" / "github-actions.yml"}

_LOOP = re.compile(r"for role in (?P<roles>[\w. ]+); do (?P<command>.*?)\bdone\b")
_COMMAND = re.compile(r"gcloud projects add-iam-policy-binding PROJECT (?P<options>(?:--\S+ ?)+)")


class DocumentError(ValueError):
    """A document does not say what it should."""


def roles(account: str, document: Path | None = None) -> tuple[str, ...]:
    """The roles that a document gives ``account`` on the project, in its order.

    Raises:
        DocumentError: it gives none.
    """
    path = document or WHERE[account]
    # One line: without line ends, their backslashes, and the marks of a comment.
    text = re.sub(r"\s*\\?\n\s*#?\s*", " ", path.read_text())
    found: list[str] = []
    for loop in _LOOP.finditer(text):
        if f"serviceAccount:{account}@" in loop["command"] and "--role=roles/$role" in loop["command"]:
            found += [f"roles/{role}" for role in loop["roles"].split()]
    for command in _COMMAND.finditer(_LOOP.sub(" ", text)):
        if f"--member=serviceAccount:{account}@" in command["options"]:
            found += re.findall(r"--role=(roles/[\w.]+)", command["options"])
    if not found:
        raise DocumentError(f"{path.name}: no `gcloud projects add-iam-policy-binding` gives {account} a role")
    return tuple(dict.fromkeys(found))


def address(account: str, project: str) -> str:
    """An account's e-mail address."""
    return f"{account}@{project}.iam.gserviceaccount.com"


def done_by_hand(project: Project) -> Project:
    """``project``, with the accounts that the documents have made by hand, and their roles.

    Raises:
        DocumentError: a document gives one of them no role.
    """
    from google.cloud.iam_admin_v1 import types

    members: dict[str, list[str]] = {}
    for account in WHERE:
        email = address(account, project.project)
        name = f"projects/{project.project}/serviceAccounts/{email}"
        project.put(name, types.ServiceAccount.pb()(name=name, email=email))
        for role in roles(account):
            members.setdefault(role, []).append(f"serviceAccount:{email}")
    bindings = [policy_pb2.Binding(role=role, members=who) for role, who in members.items()]
    policy = policy_pb2.Policy(version=1, etag=b"by hand", bindings=bindings)
    project.policies[f"projects/{project.project}"] = policy
    return project
