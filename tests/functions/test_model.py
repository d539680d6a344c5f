"""Loading a model, its checks, and how its inputs are built."""

import hashlib
import json
from typing import Any

import pytest

from functions.classify.model import Model, ModelRefusedError, load_model
from rehearsal.onnx_graph import linear_graph
from schemas import use_case
from tests.functions.doubles import models

CASE = use_case("flights")
INPUTS = len(CASE.features.model_fields)


def load(files: dict[str, bytes], **changes: Any) -> Model:
    pointer = models.pointer(files, 1).model_copy(update=changes)
    return load_model(CASE, pointer.model_version, pointer.manifest_sha256, files.__getitem__)


def probability(model: Model, **features: Any) -> float:
    return model.probability(CASE.features.model_validate(models.FEATURES | features))


@pytest.mark.parametrize(("carrier", "index"), [("AA", 0), ("B6", 1), ("UA", 2), ("ZZ", 4), ("\x00unseen", 4)])
def test_a_category_is_the_index_of_its_word_and_the_unseen_one_past_the_last(carrier, index):
    """The order of the manifest counts; a word that training never saw has its own place."""
    files = models.folder(CASE, bias=0.0, weights={"carrier": 0.1}, golden=[golden(0.2)])
    assert probability(load(files), carrier=carrier) == pytest.approx(index / 10)


def golden(value: float, **features: Any) -> dict[str, Any]:
    return {"features": models.FEATURES | features, "probability": value}


def test_a_missing_number_is_nan_and_so_never_zero():
    """The made-up model counts NaN as -1: it sees one where the record has null."""
    files = models.folder(CASE, bias=0.5, weights={"humid": 0.1}, golden=[golden(0.4)])
    model = load(files)
    assert probability(model, humid=None) == pytest.approx(0.4)
    assert probability(model, humid=1.0) == pytest.approx(0.6)


def test_a_batch_and_its_records_alone_give_the_same():
    """A thousand records in one run, and each by itself."""
    files = models.folder(CASE, bias=0.0, weights={"temp": 0.001}, golden=[golden(0.039)])
    model = load(files)
    rows = [CASE.features.model_validate(models.FEATURES | {"temp": float(i)}) for i in range(1000)]
    assert model.probabilities(rows) == [model.probability(row) for row in rows]


def test_a_manifest_with_another_hash_is_refused():
    """The pointer vouches for the manifest: a changed one does not load."""
    with pytest.raises(ModelRefusedError, match=r"manifest\.json has SHA-256"):
        load(models.folder(CASE), manifest_sha256="0" * 64)


@pytest.mark.parametrize("name", ["model.onnx", "golden.json"])
def test_a_file_with_another_hash_is_refused(name):
    """One flipped bit in any file keeps the model from serving, and the text names the file."""
    files = models.folder(CASE)
    content = bytearray(files[name])
    content[len(content) // 2] ^= 1
    files[name] = bytes(content)
    with pytest.raises(ModelRefusedError, match=f"{name} has SHA-256"):
        load(files)


def test_a_golden_row_that_is_not_reproduced_is_refused():
    """A model that gives another probability than Spark did never serves, however small the difference."""
    with pytest.raises(ModelRefusedError, match="golden row 1 gives"):
        load(models.folder(CASE, golden=[golden(0.25), golden(0.25 + 2e-9)]))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"golden": []}, "no rows"),
        ({"use_case": "trains"}, "use case trains"),
        ({"inputs": ["carrier"], "input_kinds": ["number"]}, "input carrier is a number"),
        ({"inputs": ["colour"], "input_kinds": ["number"]}, "input colour"),
        ({"inputs": ["carrier"]}, "differ in length"),
        ({"categories": {}}, "no categories for input carrier"),
        ({"files": []}, r"lists no model\.onnx"),
        ({"seed": "x"}, r"manifest\.json cannot be read: seed"),
        ({"model": b"not a graph"}, "does not load"),
        ({"model": linear_graph([0.0] * 3, 0.25)}, rf"model\.onnx does not take {INPUTS} inputs"),
        ({"model": linear_graph([0.0] * INPUTS, float("nan")), "golden": [golden(0.25)]}, "fails on its golden"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(changes, reason):
    """Each check has its own text."""
    with pytest.raises(ModelRefusedError, match=reason):
        load(models.folder(CASE, **changes))


def test_a_folder_with_another_model_is_refused():
    """The pointer's version and the manifest's must agree."""
    with pytest.raises(ModelRefusedError, match="the folder holds model"):
        load(models.folder(CASE), model_version="2013-01-01/other")


def test_the_hashes_are_those_of_the_files():
    """The made-up manifest is honest, so the checks above fail for their own reason."""
    files = models.folder(CASE)
    for entry in json.loads(files["manifest.json"])["files"]:
        assert hashlib.sha256(files[entry["name"]]).hexdigest() == entry["sha256"]
