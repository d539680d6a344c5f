"""What the rows of the table send, and what they compare."""

from pathlib import Path

import pytest

from lunation.deploy.resource import Resource
from lunation.deploy.table import resources
from lunation.settings import load
from tests.lunation.google import Google, google


def _has(state: object, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(state, dict) or part not in state:
            return False
        state = state[part]
    return True


def test_a_state_is_compared_and_never_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a service sets is part of what is wanted; what it rewrites is part of what is sent."""
    with google(tmp_path, monkeypatch) as cloud:
        rows = _of_each_kind(cloud)
        for row in rows.values():
            for field in row.told:
                assert field in row.desired(cloud.clients), row.address
                assert field not in row.sent(cloud.clients), row.address
            for path in row.rewritten:
                assert _has(row.sent(cloud.clients), path), f"{row.address}: {path} is not declared"
    with_state = {kind for kind, row in rows.items() if "state" in row.told}
    assert {"function", "index", "ttl", "subscription", "dataflow-job", "workflow", "scheduler-job"} <= with_state


def _of_each_kind(cloud: Google) -> dict[str, Resource]:
    return {row.kind: row for row in resources(load(), cloud.clients.target)}
