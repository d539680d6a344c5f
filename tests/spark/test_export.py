"""Promise of the exporter: the artefact gives Spark's own probabilities, unseen and missing values included."""

import random

import numpy as np
import onnx
import onnxruntime
import pytest
from pyspark.ml.classification import GBTClassifier
from pyspark.ml.functions import vector_to_array
from pyspark.sql.functions import col

from functions.classify.reasons import Explainer
from schemas.shapes import MISSING, ModelInput
from spark.export import read_forest, to_onnx
from spark.features import known_values, vectors
from spark.job import JobFailedError
from spark.reasons import to_reasons
from spark.served import ServedModel

pytestmark = pytest.mark.spark

TEXTS = [f"v{number}" for number in range(12)] + ["", "ação", MISSING, None]


def random_rows(seed, texts, numbers, count):
    """Rows of random features with a target that depends on all of them, and is missing nowhere."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        features = {name: draw.choice(TEXTS) for name in texts}
        features |= {
            # Many equal values, so that thresholds are hit exactly; big, tiny and negative ones; and missing ones.
            name: draw.choice([None, float("nan"), -1e6, 1e-12, *(draw.randint(-4, 4) / 2 for _ in range(6))])
            for name in numbers
        }
        signal = sum(hash_free(name, value) for name, value in features.items())
        rows.append((features, float(signal + draw.gauss(0, 1) > 0)))
    return rows


def hash_free(name, value):
    """A number that depends on name and value, the same in each process."""
    return (sum(map(ord, f"{name}{value}")) % 7 - 3) / 2


def exported(forest):
    """The artefact of a use case without rates."""
    return to_onnx(forest, forest.inputs, range(forest.inputs), [])


def frame(spark, rows, texts, numbers):
    fields = [f"`{name}`: STRING" for name in texts] + [f"`{name}`: DOUBLE" for name in numbers]
    return spark.createDataFrame(rows, f"features STRUCT<{', '.join(fields)}>, target DOUBLE")


@pytest.mark.parametrize(
    ("seed", "texts", "numbers", "depth", "limit"),
    [
        (1, ["a", "b"], ["x", "y", "z"], 5, 100),
        (2, ["a", "b"], [], 4, 100),
        (3, [], ["x", "y"], 4, 100),
        (4, ["a"], ["x"], 6, 5),  # more values than the limit: the rare ones share the bucket of the unseen
    ],
)
def test_the_artefact_gives_sparks_probabilities(spark, seed, texts, numbers, depth, limit):
    """On rows never seen in training, with unseen categories and missing values in every column: at most 1e-9 apart."""
    inputs = [ModelInput(name, "category", False) for name in texts]
    inputs += [ModelInput(name, "number", False) for name in numbers]
    train = frame(spark, random_rows(seed, texts, numbers, 800), texts, numbers)
    categories = known_values(train, inputs, dict.fromkeys(texts, limit))
    model = GBTClassifier(
        featuresCol="vector", labelCol="target", maxIter=4, maxDepth=depth, maxBins=128, seed=seed
    ).fit(vectors(train, inputs, categories))
    forest = read_forest(model)
    artefact = exported(forest)

    fresh = random_rows(seed + 100, texts, numbers, 1500)
    for name in texts:
        fresh += [(features | {name: "never seen"}, target) for features, target in fresh[:50]]
    scored = model.transform(vectors(frame(spark, fresh, texts, numbers), inputs, categories))
    sparks = [row.p for row in scored.select(vector_to_array(col("probability"))[1].alias("p")).collect()]
    columns = {item.name: [features[item.name] for features, _ in fresh] for item in inputs}
    served = ServedModel(artefact, [item.name for item in inputs], [item.kind for item in inputs], categories)
    ours = served.probabilities(columns)

    assert len(set(sparks)) > 10, "a model that answers the same to everything shows nothing"
    assert np.abs(ours - np.array(sparks)).max() <= 1e-9
    check_reasons(forest, inputs, served.matrix(columns)[-20:], sparks[-20:])
    if limit < len(TEXTS):
        assert [len(values) for values in categories.values()] == [limit]


def check_reasons(forest, inputs, rows, sparks):
    """Every training row came by the root of every tree, each went one way at a split, and contributions add up."""
    assert {tree[0].rows for tree in forest.trees} == {800.0}
    for tree in forest.trees:
        for node in tree:
            assert node.feature < 0 or node.rows == tree[node.left].rows + tree[node.right].rows
    explainer = Explainer(to_reasons(forest, [item.name for item in inputs], forest.inputs, range(forest.inputs), []))
    for row, probability in zip(rows, sparks, strict=True):
        log_odds = explainer.base + sum(explainer.contributions(row).values())
        assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(probability, abs=1e-12)


def test_columns_that_are_missing_throughout_are_no_obstacle(spark):
    """A category and a number that no training row has: the model is trained on the rest, and takes values later."""
    inputs = [ModelInput("a", "category", False), ModelInput("x", "number", False), ModelInput("y", "number", False)]
    rows = [({"a": None, "x": None, "y": float(row % 10)}, float(row % 10 > 4)) for row in range(200)]
    train = frame(spark, rows, ["a"], ["x", "y"])
    categories = known_values(train, inputs, {"a": 100})
    assert categories == {"a": [MISSING]}
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=2, seed=1).fit(
        vectors(train, inputs, categories)
    )
    artefact = exported(read_forest(model))
    served = ServedModel(artefact, ["a", "x", "y"], ["category", "number", "number"], categories)
    low, high = served.probabilities({"a": [None, "new"], "x": [None, 3.0], "y": [1.0, 9.0]})
    assert low < 0.5 < high


def test_trees_without_a_split_are_exported(spark):
    """Trees that are a single leaf, because no split has enough rows, give Spark's probability too."""
    inputs = [ModelInput("x", "number", False)]
    train = frame(spark, [({"x": float(row)}, float(row % 3 == 0)) for row in range(60)], [], ["x"])
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=2, minInstancesPerNode=50, seed=1).fit(
        vectors(train, inputs, {})
    )
    assert model.totalNumNodes == 2
    artefact = exported(read_forest(model))
    row = model.transform(vectors(train, inputs, {})).first()
    ours = ServedModel(artefact, ["x"], ["number"], {}).probabilities({"x": [1.0, None]})
    assert ours == pytest.approx([row.probability[1]] * 2, abs=1e-12)


def test_the_artefact_keeps_the_serving_contract(spark):
    """One input `features` double [N, F], one output `probability` double [N]; checked; the same bytes again."""
    inputs = [ModelInput("a", "category", False), ModelInput("x", "number", False)]
    train = frame(spark, random_rows(5, ["a"], ["x"], 300), ["a"], ["x"])
    table = vectors(train, inputs, known_values(train, inputs, {"a": 100}))
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=2, seed=1).fit(table)
    artefact = exported(read_forest(model))
    onnx.checker.check_model(onnx.load_from_string(artefact), full_check=True)
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("features", "tensor(double)", ["N", 2])
    assert (answer.name, answer.type, answer.shape) == ("probability", "tensor(double)", ["N", 1])
    assert session.run(None, {"features": np.zeros((3, 2))})[0].shape == (3, 1)
    assert exported(read_forest(model)) == artefact


def test_the_trees_are_those_that_spark_saves(spark, tmp_path):
    """Node by node what a saved model holds, numeric and categorical splits and leaves, in full precision."""
    inputs = [ModelInput("a", "category", False), ModelInput("x", "number", False)]
    train = frame(spark, random_rows(7, ["a"], ["x"], 600), ["a"], ["x"])
    table = vectors(train, inputs, known_values(train, inputs, {"a": 100}))
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=3, maxDepth=4, seed=2).fit(table)
    model.save(f"file://{tmp_path}/gbt")
    saved = spark.read.parquet(f"file://{tmp_path}/gbt/data").select("treeID", "nodeData.*").orderBy("treeID", "id")
    expected = [
        (
            row.prediction,
            row.rawCount,
            (row.leftChild, row.rightChild),
            row.split.featureIndex,
            tuple(row.split.leftCategoriesOrThreshold),
        )
        for row in saved.collect()
    ]
    found = [
        (
            node.prediction,
            node.rows,
            (node.left, node.right),
            node.feature,
            node.members if node.threshold is None else (node.threshold,),
        )
        for tree in read_forest(model).trees
        for node in tree
    ]
    assert found == expected
    assert {feature for *_, feature, _ in found} == {-1, 0, 1}, "leaves, and splits of both kinds"


def test_another_model_is_refused(spark):
    """The exporter says what it knows instead of exporting nonsense."""
    from pyspark.ml.classification import LogisticRegression

    inputs = [ModelInput("x", "number", False)]
    train = frame(spark, [({"x": float(row)}, float(row % 2)) for row in range(20)], [], ["x"])
    model = LogisticRegression(featuresCol="vector", labelCol="target", maxIter=1).fit(vectors(train, inputs, {}))
    with pytest.raises(JobFailedError, match="LogisticRegressionModel is no GBTClassificationModel"):
        read_forest(model)
