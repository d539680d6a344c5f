"""Promises of a whole cycle on a small archive: a complete, judged model folder, made once and never changed."""

import hashlib
import json
import math
import random
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from pydantic import Field
from pyspark.sql.functions import expr

from functions.classify.reasons import Explainer
from schemas.manifest_diff import differences
from schemas.model_manifest import ModelManifest, Verdict
from schemas.profile import LABEL, LABEL_DELAY, Bins
from schemas.shapes import model_inputs
from spark import report
from spark import snapshot as converted
from spark.conversion import convert
from spark.day_counts import Wanted, as_profile, count
from spark.evaluation import evaluate, read_window
from spark.features import features_ddl
from spark.instruments import AUC, TRAINING
from spark.job import JobFailedError
from spark.served import ServedModel
from spark.training import PARAMETERS
from spark.training import train as train_with
from tests.spark.conftest import SHOP, ShopFeatures

pytestmark = pytest.mark.spark


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\x07"
"""A country as a stranger may type it."""

# A tree costs Spark half a second, however small the data; a cycle with three of them shows the same.
FEW_TREES = PARAMETERS | {"maxIter": 3}


def train(spark, storage, job):
    """The job, with few trees."""
    train_with(spark, storage, job, FEW_TREES)


def history(record, label, first=0, days=42, a_day=60, seed=1, flipped=False):
    """Records whose outcome depends on country and price, with missing values and a country seen late only."""
    draw = random.Random(seed)
    records, labels = [], []
    for day in range(first, first + days):
        for number in range(a_day):
            country = draw.choice(["ar", "br", "cl"] + ([HOSTILE] if day > first + days - 10 else []))
            price = draw.choice([None, round(draw.uniform(1, 20), 2)])
            risk = {"ar": -1.5, "br": 0.0, "cl": 1.0, HOSTILE: 0.5}[country] + (0.15 * price if price else 1.0) - 1.5
            returned = (draw.random() < 1 / (1 + math.exp(-risk))) != flipped
            record_id = f"d{day}.{number}.{seed}"
            features = {"items": number % 5, "coupon": draw.choice([None, "x", "y"]), "rating": price}
            features["price"] = price or 0.0
            records.append(record(record_id, day=day, country=country, **features))
            labels.append(label(record_id, "returned" if returned else "kept", day=day + 0.5))
    return records, labels


def run(desk):
    """The three jobs, in the template's order."""
    for work in (convert, train, evaluate):
        work(desk.spark, desk.storage, desk.job)
    return ModelManifest.model_validate(desk.json(f"{desk.job.model}/manifest.json"))


def snapshot(desk):
    """Every file of the models bucket, by content."""
    folder = desk.storage.root / desk.job.models.removeprefix("gs://")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_cycles_make_two_whole_models(desk, record, label):
    """The first is promoted without a champion, the second is compared with it; each folder is complete, its manifest
    last, its golden rows reproduced; a finished run that is started again changes nothing."""
    records, labels = history(record, label)
    late = [place for place in range(60) if labels[place]["label"] == "returned"][:9]
    for place in late:
        labels[place] |= {"event_time": label("", day=20)["event_time"]}
    desk.put("records", records)
    desk.put("labels", labels)
    first = run(desk)
    assert first.verdict == Verdict.PROMOTE
    assert first.champion is None
    assert first.metrics["champion"] is None
    assert first.parity_max_abs_diff <= 1e-9
    assert (first.rows["train"], first.rows["evaluate"]) == (14 * 60 - len(late), 28 * 60), "what was known in time"
    assert first.windows == {
        "train_from": "2024-03-01",
        "train_to": "2024-03-14",
        "evaluate_from": "2024-03-15",
        "evaluate_to": "2024-04-11",
    }
    assert first.categories["country"] == ["ar", "br", "cl"], "a country of the evaluation window is not known"
    assert 0.6 < first.metrics["challenger"]["auc"] < 0.95
    assert set(first.seconds) == {"convert", "train", "evaluate"}
    assert desk.listed(desk.job.model) == [
        "MODEL_CARD.md",
        "convert.json",
        "evaluation.json",
        "golden.json",
        "inputs.json",
        "manifest.json",
        "model.onnx",
        "profile.json",
        "reasons.onnx",
        "report.html",
        "verdict.json",
    ]
    check_verdict(desk, first)
    assert first.metrics["frozen"] is None
    assert first.metrics["constant"]["auc"] == 0.5
    returned = [one["label"] == "returned" for one in labels]
    known = (sum(returned[: 14 * 60]) - len(late)) / first.rows["train"]
    share = sum(returned[14 * 60 :]) / first.rows["evaluate"]
    expected = -share * math.log(known) - (1 - share) * math.log(1 - known)
    assert first.metrics["constant"]["log_loss"] == pytest.approx(expected, abs=1e-9)
    assert [check.name for check in first.checks if not check.passed] == []
    assert len(first.code_sha256) == 64
    assert [name.rsplit("/", 1)[1] for name in desk.storage.written[-2:]] == ["manifest.json", "verdict.json"]
    assert {file.name for file in first.files} == {"model.onnx", "golden.json", "reasons.onnx"}
    for file in [*first.files, *first.evidence]:
        content = (desk.storage.root / desk.job.model.removeprefix("gs://") / file.name).read_bytes()
        assert (file.sha256, file.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    check_golden_rows(desk, first)

    before = snapshot(desk)
    run(desk)
    assert snapshot(desk) == before
    (desk.storage.root / f"{desk.job.model}/verdict.json".removeprefix("gs://")).unlink()
    run(desk)
    assert snapshot(desk) == before, "a run that broke off before its last file goes on"

    for topic, lines in zip(("records", "labels"), history(record, label, first=42, days=14, seed=2), strict=True):
        desk.put(topic, lines, "later.json", day="2024-04-12")
    champion = f"models/{desk.job.training_date}/{desk.job.run_id}"
    desk.job = replace(desk.job, run_id="run-2", training_date="2024-06-29", champion=champion)
    second = run(desk)
    assert second.champion == first.model_version == "2024-06-01/run-1"
    assert second.rows["train"] == 28 * 60
    assert {"auc", "auc_low", "auc_high", "log_loss", "rows"} <= set(second.metrics["champion"])
    assert second.metrics["champion"]["rows"] == second.metrics["challenger"]["rows"] == second.rows["evaluate"]
    assert second.verdict in (Verdict.PROMOTE, Verdict.HOLD)
    case, verdict = ("use_case", "shop"), ("verdict", second.verdict.value)
    for model in ("challenger", "champion"):
        assert AUC.values()[(case, ("model", model), verdict)] == second.metrics[model]["auc"]
    assert TRAINING.values()[(case, ("use", "train"))] == second.rows["train"]
    seen = desk.evaluated()
    assert seen.drift_against == "the training window of the champion 2024-06-01/run-1"
    assert set(seen.drift) == {"country", "coupon", "items", "price", "rating", "returning"}
    assert {part.feature for part in seen.segments} == {"country", "coupon"}
    assert all(part.champion_auc is not None for part in seen.segments)
    assert next(iter(seen.importance)) in ("country", "price", "rating")
    assert sum(row.rows for row in seen.by_day) == second.rows["evaluate"]
    check_report(desk, second)
    assert {path: content for path, content in snapshot(desk).items() if path in before} == before


def check_verdict(desk, manifest):
    """The workflow reads a small file, which vouches for the manifest by its hash."""
    told = desk.json(f"{desk.job.model}/verdict.json")
    content = (desk.storage.root / f"{desk.job.model}/manifest.json".removeprefix("gs://")).read_bytes()
    assert told == {
        "model_version": manifest.model_version,
        "run_id": manifest.run_id,
        "use_case": "shop",
        "uri": desk.job.model,
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
        "champion": None,
        "verdict": "PROMOTE",
        "reasons": manifest.reasons,
    }


def check_golden_rows(desk, manifest):
    """Unseen and missing values are among them, and the artefact gives what Spark gave."""
    golden = desk.json(f"{desk.job.model}/golden.json")
    assert len(golden) == 50
    countries = {row["features"]["country"] for row in golden}
    assert countries - set(manifest.categories["country"]), "no unseen category"
    read = [SHOP.features.model_validate(row["features"]).__dict__ for row in golden]
    assert any(row["coupon"] is None and row["rating"] is None for row in read)
    artefact = (desk.storage.root / desk.job.model.removeprefix("gs://") / "model.onnx").read_bytes()
    served = ServedModel(artefact, manifest.inputs, manifest.input_kinds, manifest.categories)
    columns = {name: [row[name] for row in read] for name in manifest.inputs}
    ours = served.probabilities(columns)
    assert np.abs(ours - [row["probability"] for row in golden]).max() <= 1e-9
    explainer = Explainer((desk.storage.root / desk.job.model.removeprefix("gs://") / "reasons.onnx").read_bytes())
    for row, given in zip(served.matrix(columns), ours, strict=True):
        log_odds = explainer.base + sum(explainer.contributions(row).values())
        assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(given, abs=1e-12)


def check_report(desk, manifest):
    """The page stands by itself, says what was decided and what changed, and takes no text of strangers for markup."""
    folder = desk.storage.root / desk.job.model.removeprefix("gs://")
    page, card = (folder / "report.html").read_text(), (folder / "MODEL_CARD.md").read_text()
    for text in (page, card):
        assert manifest.verdict in text
        assert "<script" not in text
        assert not any(unicodedata.category(one) in ("Cc", "Cf") for one in text.replace("\n", "")), "it would steer"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e\\x07" in page, "the country is named, as text"
    assert not re.search(r"(src|href)=|@import|url\((?!#)", page), "something would be fetched"
    assert "windows.train_to" in page
    assert page.count("<svg") >= 8
    assert len(re.findall(r"<text[^>]*>price</text>", page)) >= 2, "importance and drift name their bars"
    assert len(page) < 1_500_000
    assert ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.S)[0]) is not None


def test_the_same_inputs_give_the_same_bytes(desk, record, label, monkeypatch):
    """Two runs over one archive, its objects split in another way: identical artefact and golden rows. So it is when
    the trees' errors are put on file after every tree, and the files are gone then."""
    records, labels = history(record, label, days=35, a_day=30)
    desk.put("records", records)
    desk.put("labels", labels)
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    first = snapshot(desk)

    desk.put("records", records[::-2])
    desk.put("records", records[::2], "more.json")
    desk.job = replace(desk.job, run_id="run-2")
    monkeypatch.setattr("spark.training.TREES_A_CHECKPOINT", 1)
    convert(desk.spark, desk.storage, desk.job)
    boosting = desk.storage.root / desk.job.work.removeprefix("gs://") / "boosting"
    with ThreadPoolExecutor() as pool:
        trained = pool.submit(train, desk.spark, desk.storage, desk.job)
        seen = False
        while not trained.done():
            seen = seen or any(boosting.glob("*/rdd-*/part-*"))
            wait([trained], timeout=0.005)
        trained.result()
    second = snapshot(desk)
    assert seen
    assert [path for path in boosting.rglob("*") if path.is_file()] == []
    for name in ("model.onnx", "golden.json"):
        assert second[f"models/2024-06-01/run-2/{name}"] == first[f"models/2024-06-01/run-1/{name}"]


def test_the_predecessor_is_measured_and_broken_labels_hold_the_model_back(desk, record, label):
    """The third model meets the champion's predecessor as well; its labels are turned round, so it is held back with
    that reason. A run that broke off before its manifest goes on with the same figures."""
    for topic, lines in zip(("records", "labels"), history(record, label, days=35, a_day=40), strict=True):
        desk.put(topic, lines)
    first = run(desk)
    desk.job = replace(desk.job, run_id="run-2", champion=f"models/{first.model_version}")
    second = run(desk)
    assert second.metrics["frozen"] is None

    records, labels = history(record, label, first=35, days=28, a_day=40, seed=3)
    broken = ["{"] * 35  # 1.5 % of what is new, 0.7 % of all there is
    desk.put("records", records + broken, "later.json", day="2024-04-05")
    kept = [row for row in labels if row["label"] == "returned"][::9] + [
        row for row in labels if row["label"] == "kept"
    ]
    desk.put("labels", kept, "later.json", day="2024-04-05")
    desk.job = replace(desk.job, run_id="run-3", champion=f"models/{second.model_version}")
    third = run(desk)
    assert third.metrics["frozen"]["rows"] == third.rows["evaluate"]
    assert third.metrics["difference_frozen"]["auc_low"] <= third.metrics["difference_frozen"]["auc"]
    assert third.verdict == Verdict.HOLD
    assert any(reason.startswith("label_rate: ") for reason in third.reasons)
    assert {check.name for check in third.checks if not check.passed} >= {"label_rate", "corrupt"}

    path = desk.storage.root / f"{desk.job.model}/manifest.json".removeprefix("gs://")
    before = path.read_bytes()
    path.unlink()
    evaluate(desk.spark, desk.storage, desk.job)
    assert path.read_bytes() == before


def test_a_profile_counts_as_its_bins_say(desk, record, label):
    """Spark's expression and the bins' own rule put every record of every day into one place, odd text included."""
    records = [
        record("a", day=0, price=1.0, country="o'br\\"),
        record("b", day=0, price=2.5, country="cl", rating=3),
        record("c", day=2, price=99.0, country="never seen", coupon="x"),
        record("d", day=9, price=99.0),
    ]
    desk.put("records", records)
    desk.put("labels", [label("a", "returned", day=3), label("b", "kept", day=-1)])
    convert(desk.spark, desk.storage, desk.job)
    bins = {
        "price": Bins(kind="number", edges=[1.0, 2.0]),
        "rating": Bins(kind="number", edges=[]),
        "country": Bins(kind="category", values=["cl", "o'br\\"]),
        "coupon": Bins(kind="category", values=[]),
    }
    made = converted.read(desk.storage, desk.job, desk.job.run_id)
    assert made is not None
    rows = converted.rows(desk.spark, desk.job, made, features_ddl(SHOP))
    begin, third = date(2024, 3, 1), date(2024, 3, 3)
    (counted, later), labels = count(
        rows, SHOP, begin, 3, [Wanted(bins, begin), Wanted({"price": Bins(kind="number", edges=[50.0])}, third)]
    )
    assert later["price"].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    for name, chosen in bins.items():
        expected = [[0] * chosen.places for _ in range(3)]
        for document, day in zip(records[:3], (0, 0, 2), strict=True):
            expected[day][chosen.place(document["features"].get(name))] += 1
        assert counted[name].tolist() == expected, name
    assert labels[LABEL].tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert labels[LABEL_DELAY][0].nonzero()[0].tolist() == [1, 8], "one came a day early, one took three days"
    kept = as_profile(date(2024, 3, 1), bins, counted)
    assert kept.days == ["2024-03-01", "2024-03-03"]
    assert kept.total("price") == [0, 1, 0, 2]


def test_a_run_that_broke_off_goes_on(desk, record, label):
    """After a crash between a job's files the same run ends well; a file with another content stops it."""
    records, labels = history(record, label, days=35, a_day=30)
    desk.put("records", records)
    desk.put("labels", labels)
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    work = desk.storage.root / desk.job.work.removeprefix("gs://")
    (work / "train.json").unlink()
    train(desk.spark, desk.storage, desk.job)

    (work / "train.json").unlink()
    model = desk.storage.root / desk.job.model.removeprefix("gs://") / "model.onnx"
    model.write_bytes(b"someone else's")
    with pytest.raises(JobFailedError, match=r"model.onnx exists with another content"):
        train(desk.spark, desk.storage, desk.job)
    assert model.read_bytes() == b"someone else's"


def change_scores(desk, probability):
    """Have Spark say something else about the evaluation window than it did."""
    scores = desk.storage.root / f"{desk.job.work}/scores".removeprefix("gs://")
    changed = desk.spark.read.parquet(f"file://{scores}").withColumn("probability", expr(probability))
    changed.write.parquet(f"file://{scores}-changed")
    scores.rename(scores.with_name("scores-of-spark"))
    scores.with_name("scores-changed").rename(scores)


def test_an_artefact_that_is_not_what_spark_trained_is_rejected(desk, record, label):
    """Parity is measured on the bytes that would be served: a model of other data does not pass."""
    for topic, lines in zip(("records", "labels"), history(record, label), strict=True):
        desk.put(topic, lines)
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    change_scores(desk, "probability + 1e-6")
    evaluate(desk.spark, desk.storage, desk.job)
    manifest = desk.json(f"{desk.job.model}/manifest.json")
    assert manifest["verdict"] == "REJECT"
    assert manifest["parity_max_abs_diff"] == pytest.approx(1e-6, rel=1e-3)


class PickierFeatures(ShopFeatures):
    """The shop's, after somebody has tightened a bound."""

    items: int = Field(lt=4)


def with_overflow(artefact):
    """The same model, but for a price near the end of all numbers, where it answers NaN."""
    model = onnx.load_from_string(artefact)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["judged" if name == "probability" else name for name in node.output]
    place = [item.name for item in model_inputs(SHOP)].index("price")
    for name, value in {"o_place": np.array([place]), "o_large": np.array(1e10), "o_zero": np.array(0.0)}.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            onnx.helper.make_node("Gather", ["features", "o_place"], ["o_price"], axis=1),
            onnx.helper.make_node("Mul", ["o_price", "o_large"], ["o_much"]),
            onnx.helper.make_node("Mul", ["o_much", "o_zero"], ["o_nothing"]),
            onnx.helper.make_node("Shape", ["judged"], ["o_shape"]),
            onnx.helper.make_node("Reshape", ["o_nothing", "o_shape"], ["o_column"]),
            onnx.helper.make_node("Add", ["judged", "o_column"], ["probability"]),
        ]
    )
    return model.SerializeToString()


def test_what_no_instance_could_serve_is_rejected(desk, record, label):
    """The gate loads the very folder by the function's code, and has it answer what a publisher may send: golden rows
    that today's class refuses, and a probability that is none, are told with the check and the row; and what does not
    fit into an instance, with its memory."""
    for topic, lines in zip(("records", "labels"), history(record, label), strict=True):
        desk.put(topic, lines)
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    shop, folder = desk.job, desk.storage.root / desk.job.model.removeprefix("gs://")
    trained = {path.name: path.read_bytes() for path in folder.iterdir()}
    desk.job = replace(shop, case=replace(shop.case, features=PickierFeatures))
    evaluate(desk.spark, desk.storage, desk.job)
    manifest = desk.json(f"{desk.job.model}/manifest.json")
    assert manifest["verdict"] == desk.json(f"{desk.job.model}/verdict.json")["verdict"] == "REJECT"
    (reason,) = manifest["reasons"]
    assert reason.startswith("no instance could serve it: golden.json cannot be read: items")
    assert reason in desk.json(f"{desk.job.model}/verdict.json")["reasons"]
    assert "REJECT" in (folder / "report.html").read_text()

    for path in folder.iterdir():
        path.unlink()
    for name, content in trained.items():
        (folder / name).write_bytes(content)
    (folder / "model.onnx").write_bytes(with_overflow(trained["model.onnx"]))
    desk.job = shop
    evaluate(desk.spark, desk.storage, desk.job)
    manifest = desk.json(f"{desk.job.model}/manifest.json")
    assert manifest["verdict"] == "REJECT"
    (reason,) = [one for one in manifest["reasons"] if one.startswith("no instance could serve it: ")]
    assert reason.endswith("answered nan, which is no probability")

    for path in folder.iterdir():
        path.unlink()
    for name, content in trained.items():
        (folder / name).write_bytes(content)
    desk.job = replace(shop, instance_mib=64)
    evaluate(desk.spark, desk.storage, desk.job)
    manifest = desk.json(f"{desk.job.model}/manifest.json")
    assert manifest["verdict"] == "REJECT"
    assert "no instance could serve it: " in manifest["reasons"][0]
    assert "32 MiB of memory" in manifest["reasons"][0], "an instance has what deploy gives it"


def test_of_a_large_window_a_part_is_measured_and_every_row_compared(desk, record, label, monkeypatch):
    """The driver holds no more rows than it may, and still one row that differs, in whichever part, is enough."""
    for topic, lines in zip(("records", "labels"), history(record, label), strict=True):
        desk.put(topic, lines)
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    rows = desk.trained().rows.evaluate
    monkeypatch.setattr("spark.evaluation.WINDOW_ROWS", rows // 4 - 1)
    parts = [read_window(desk.spark, desk.job, part, 5) for part in range(5)]
    assert sum(len(part.target) for part in parts) == rows
    assert {len(set(part.days)) for part in parts} == {28}
    (last, *_) = (
        desk.spark.read.parquet(f"{desk.job.work}/scores")
        .where("golden IS NULL AND pmod(xxhash64(record_id), 5) = 4")
        .collect()
    )
    change_scores(desk, f"probability + IF(record_id = '{last.record_id}', 1e-6, 0)")
    evaluate(desk.spark, desk.storage, desk.job)
    manifest = desk.json(f"{desk.job.model}/manifest.json")
    assert manifest["metrics"]["challenger"]["rows"] == manifest["rows"]["evaluate"] == len(parts[0].target)
    assert manifest["rows"]["window"] == rows
    said = f"{manifest['rows']['evaluate']:,} of {rows:,} records"
    seen = desk.evaluated()
    assert said in report.html(seen, 1).decode()
    assert said in report.card(seen).decode()
    del seen.manifest.rows["window"]  # a run of an older release may go on with this one
    assert said not in report.html(seen, 1).decode() + report.card(seen).decode()
    assert manifest["verdict"] == "REJECT"
    assert manifest["parity_max_abs_diff"] == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("days", "change", "message"),
    [
        (10, None, r"within the evaluation window of 28 days.*wait for more history"),
        (35, "no labels", r"has a label.*check that labels are published"),
        (35, "one class", r"labelled 'kept': one class teaches nothing"),
    ],
)
def test_data_that_nothing_can_be_learned_from_fails(desk, record, label, days, change, message):
    """Too short a history, no labels, one class only: a failure with its cause, and no model folder."""
    records, labels = history(record, label, days=days, a_day=5)
    desk.put("records", records)
    if change == "one class":
        labels = [row | {"label": "kept"} for row in labels]
    if change != "no labels":
        desk.put("labels", labels)
    convert(desk.spark, desk.storage, desk.job)
    with pytest.raises(JobFailedError, match=message):
        train(desk.spark, desk.storage, desk.job)
    assert snapshot(desk) == {}


def test_a_class_and_a_column_that_vanish_hold_the_model_back(desk, record, label):
    """In the newest window nothing is returned, and no record ever has a rating: the jobs end well, the verdict is
    HOLD, and its reasons name both."""
    records, labels = history(record, label, days=42, a_day=30)
    for row in records:
        row["features"].pop("rating")
    desk.put("records", records)
    desk.put("labels", labels[: 14 * 30] + [row | {"label": "kept"} for row in labels[14 * 30 :]])
    manifest = run(desk)
    reasons = "\n".join(manifest.reasons)
    assert manifest.verdict == Verdict.HOLD
    assert manifest.metrics["challenger"]["auc"] is None
    assert "schema: no record of the newest window has a value for rating" in reasons
    assert re.search(r"label_rate: .*0.0% of the labels are positive", reasons)
    assert "0 positive and 840 negative labels" in reasons


def test_jobs_out_of_order_fail(desk):
    """Each job names the one that has to run before it."""
    with pytest.raises(JobFailedError, match=r"convert.json is not there; run convert.py"):
        train(desk.spark, desk.storage, desk.job)
    with pytest.raises(JobFailedError, match=r"convert.json is not there; run convert.py"):
        evaluate(desk.spark, desk.storage, desk.job)


def test_a_champion_that_is_not_whole_stops_the_evaluation(desk, record, label):
    """No folder, or an artefact that is not the one of its manifest: a failure, and no manifest for the challenger."""
    for topic, lines in zip(("records", "labels"), history(record, label, days=35, a_day=30), strict=True):
        desk.put(topic, lines)
    run(desk)
    old = desk.job
    desk.job = replace(old, run_id="run-2", champion="models/2024-01-01/gone")
    convert(desk.spark, desk.storage, desk.job)
    train(desk.spark, desk.storage, desk.job)
    with pytest.raises(JobFailedError, match=r"models/2024-01-01/gone/manifest.json is not there"):
        evaluate(desk.spark, desk.storage, desk.job)

    manifest = desk.json(f"{old.model}/manifest.json")
    broken = desk.storage.root / desk.job.models.removeprefix("gs://") / "models/2024-01-01/broken"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text(json.dumps(manifest))
    (broken / "model.onnx").write_bytes(b"changed")
    desk.job = replace(desk.job, champion="models/2024-01-01/broken")
    with pytest.raises(JobFailedError, match=r"model.onnx is not the file that its manifest names"):
        evaluate(desk.spark, desk.storage, desk.job)
    assert "manifest.json" not in desk.listed(desk.job.model)


def test_a_run_is_repeated_from_what_its_folder_says(desk, record, label):
    """With more data in the archive since, other defaults and another rhythm, the repetition gives the same bytes and
    says so; it is never promoted. An object that changed or is gone stops it."""
    for topic, lines in zip(("records", "labels"), history(record, label, days=35, a_day=30), strict=True):
        desk.put(topic, lines)
    other = desk.job
    desk.job = replace(other, evaluation_days=14)
    first = run(desk)
    assert (first.windows["evaluate_from"], first.windows["evaluate_to"]) == ("2024-03-22", "2024-04-04")
    desk.job = other
    for topic, lines in zip(("records", "labels"), history(record, label, first=35, days=7, seed=5), strict=True):
        desk.put(topic, lines, "later.json", day="2024-04-05")
    original = desk.job
    desk.job = replace(original, run_id="again", like=f"models/{first.model_version}")
    convert(desk.spark, desk.storage, desk.job)
    train_with(desk.spark, desk.storage, desk.job)  # the defaults, not the original's few trees
    evaluate(desk.spark, desk.storage, desk.job)
    again = ModelManifest.model_validate(desk.json(f"{desk.job.model}/manifest.json"))
    assert again.like == first.model_version
    assert again.verdict == Verdict.HOLD
    assert again.reasons == [
        f"repeats {first.model_version}: the same artefact, byte for byte; it is made to be compared, not to serve"
    ]
    assert again.files == first.files
    assert again.windows == first.windows
    changed = {one.what.split(".")[0] for one in differences(first, again)}
    assert changed <= {"verdict", "seconds", "parameters"}
    assert again.parameters | {"data": ""} == first.parameters | {"data": ""}

    path = desk.storage.root / desk.job.archive.removeprefix("gs://") / "archive/labels/dt=2024-03-01/one.json"
    path.write_bytes(path.read_bytes() + b"\n")
    desk.job = replace(original, run_id="once-more", like=f"models/{first.model_version}")
    with pytest.raises(
        JobFailedError, match=r"1 of the 1 objects .* gone or changed, first .*labels/dt=2024-03-01/one.json"
    ):
        convert(desk.spark, desk.storage, desk.job)
    desk.job = replace(original, run_id="of-nothing", like="models/2024-01-01/gone")
    with pytest.raises(JobFailedError, match=r"models/2024-01-01/gone/manifest.json is not there"):
        convert(desk.spark, desk.storage, desk.job)
