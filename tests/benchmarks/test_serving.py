"""The serving benchmark: what it sends is what it says, and a target that is missed is told."""

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import pytest

from benchmarks.serving import model, push
from benchmarks.serving.bench import Bench, compared, not_measured
from benchmarks.serving.contenders import FUNCTIONS
from schemas import Classification, Record, use_case
from tests.functions.doubles import models

RECORDS = [models.record(f"r{number}", carrier=carrier) for number, carrier in enumerate(["AA", "UA"] * 50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's files."""
    features = use_case("flights").features
    whole = [{**one, "features": features.model_validate(one["features"]).model_dump()} for one in RECORDS]
    place = tmp_path_factory.mktemp("model")
    for name, content in model.folder(whole).items():
        (place / name).write_bytes(content)
    return place


def loaded(name: str) -> ModuleType:
    """A function of the benchmark, as the framework loads it."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FUNCTIONS / name / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_our_function_in_thread_mode_classifies(folder, monkeypatch):
    """With the code of the real one: its answers are classifications of the benchmark's model."""
    monkeypatch.setenv("MODEL_FOLDER", str(folder))
    main = loaded("thread")
    with flask.Flask("bench").test_request_context(method="POST", data=json.dumps(RECORDS[0])) as context:
        answer = Classification.model_validate_json(main.classify(context.request).data)
    with flask.Flask("bench").test_request_context(method="POST", data=json.dumps(RECORDS)) as context:
        answers = json.loads(main.classify(context.request).data)
    assert [one["record_id"] for one in answers] == [record["record_id"] for record in RECORDS]
    assert answers[0]["probability"] == pytest.approx(answer.probability)


def test_a_push_body_has_its_changing_digits_at_a_multiple_of_three_bytes(tmp_path):
    """So the load tool can write another id without encoding the rest; what it makes is a record."""
    made: Any = Bench(tmp_path, tmp_path, tmp_path, None, RECORDS, 1, 1, print)  # type: ignore[arg-type]
    for start in ("l0-o-", "e12-u-", "x"):
        path, prefix = push._body(made, start)
        zeros = base64.b64encode(b"000000000").decode()
        text = path.read_text()
        assert text.count(zeros) == 1
        changed = text.replace(zeros, base64.b64encode(b"001234567").decode())
        data = base64.b64decode(json.loads(changed)["message"]["data"])
        record: Record[Any] = use_case("flights").record.model_validate_json(data)
        assert record.record_id == f"{prefix}001234567"


def test_what_is_slower_or_not_measured_counts_as_missed():
    """Figures are medians, and the ratio is the median of those of each round."""
    assert compared("x", [10, 1, 30], [5, 1, 4], 2) == {
        "name": "x",
        "ours": 10,
        "other": 4,
        "ratio": 2,
        "target": ">= 2 x",
        "ok": True,
    }
    assert compared("x", [10], [5], 2.1)["ok"] is False
    assert not_measured("x", ">= 2 x", "no wheel")["ok"] is False
