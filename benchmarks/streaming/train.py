"""Trains one model with Spark and leaves it in both shapes: as Spark saved it, and as the folder that is served.

``python -m benchmarks.streaming.train FOLDER`` writes ``spark/`` (a GBTClassificationModel), ``categories.json``, and
``served/`` (``model.onnx``, ``golden.json``, and a manifest for each of two versions of the same model).
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from pyspark.ml.classification import GBTClassifier
from pyspark.ml.functions import vector_to_array
from pyspark.sql.functions import col

from datasets import data_set
from rehearsal.manifest import untrained
from schemas import GoldenRow, use_case
from schemas.shapes import model_inputs
from spark.export import read_forest, to_onnx
from spark.features import features_ddl, known_values, vectors
from spark.session import start
from spark.training import PARAMETERS, SEED, parameters_for

UNTIL = datetime(2013, 2, 12, tzinfo=UTC)
VERSIONS = ("first", "second")


def main(folder: Path) -> None:
    """Train on six weeks of flights, without the rates that a cycle adds: both systems take the same columns."""
    case = use_case("flights")
    history = folder / "history.ndjson"
    with history.open("w") as lines:
        for record, label in data_set(case.name).history(UNTIL):
            if label is not None:
                lines.write(json.dumps({**record, "label": label["label"]}) + "\n")
    spark = start("streaming benchmark")
    inputs = model_inputs(case)
    rows = (
        spark.read.schema(f"{features_ddl(case)}, label STRING")
        .json(history.as_uri())
        .selectExpr("features", f"CAST(label = '{case.positive}' AS DOUBLE) AS target")
    )
    categories = known_values(rows, inputs, {item.name: PARAMETERS["maxBins"] - 1 for item in inputs})
    table = vectors(rows, inputs, categories).cache()
    parameters = {**parameters_for(table.count()), **PARAMETERS}
    model = GBTClassifier(featuresCol="vector", labelCol="target", seed=SEED, **parameters).fit(table)
    model.write().overwrite().save((folder / "spark").as_uri())
    golden = [
        GoldenRow(features=row.features.asDict(), probability=row.probability).model_dump(mode="json")
        for row in model.transform(table.limit(20))
        .select("features", vector_to_array(col("probability"))[1].alias("probability"))
        .collect()
    ]
    served = folder / "served"
    served.mkdir()
    files = {
        "model.onnx": to_onnx(read_forest(model), len(inputs), range(len(inputs)), []),
        "golden.json": json.dumps(golden).encode(),
    }
    for name, content in files.items():
        (served / name).write_bytes(content)
    (folder / "categories.json").write_text(json.dumps(categories))
    for version in VERSIONS:
        manifest = untrained(case, f"2013-02-12/{version}", files, categories, reason="made for a benchmark", seed=SEED)
        (served / f"manifest-{version}.json").write_text(manifest.model_dump_json())
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
