"""What stands before the functions at Google's: they are judged behind it, from their staged zips."""

import json
from pathlib import Path

import pytest

from functions.openapi import documents
from lunation.deploy import artefacts
from rehearsal import front_door


def test_every_operation_is_asked_with_each_id_that_its_document_allows() -> None:
    """Also with one that ends as no path may, unless the document says that it is not for it."""
    asked = {
        f"{verb} {url}"
        for verb, path, operation in front_door.operations_of(json.loads(documents("flights")["submit.json"]))
        for url in front_door.urls_of(path, operation)
    }
    ordinary, at_the_door = front_door.IDS
    assert at_the_door.endswith("z")
    for read in ("records", "classifications"):
        assert {f"GET /v1/{read}?record_id={ordinary}", f"GET /v1/{read}?record_id={at_the_door}"} <= asked
        assert f"GET /v1/{read}/{ordinary}" in asked
        assert f"GET /v1/{read}/{at_the_door}" not in asked
    assert {"POST /v1/records", "GET /v1/health", "GET /openapi.json"} <= asked


def test_the_functions_hold_behind_googles_front_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path is reached, no sleeper killed, a slow handshake waited for, a failed start of a cycle made again, and
    a push that comes again answered once; the variables of this process stay as they are."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "somebody:1")
    said: list[str] = []
    assert front_door.front_door(tmp_path / "door", said.append) == []
    assert len(said) == 4, "each step is told"
    assert front_door.os.environ["PUBSUB_EMULATOR_HOST"] == "somebody:1"
