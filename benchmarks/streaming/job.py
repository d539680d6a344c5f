"""A Structured Streaming job that classifies records: lines from a socket, answers as lines on standard output.

``python -m benchmarks.streaming.job FOLDER PORT SECONDS``: the model of ``benchmarks.streaming.train`` in FOLDER,
records from 127.0.0.1:PORT, a micro-batch every SECONDS (0: Spark's default, the next one as soon as the last is done).

Open-source Spark has no Pub/Sub source. The socket is the source with the least delay that it does have, so a real
source could only be slower.
"""

import json
import sys
from pathlib import Path

from pyspark.ml.classification import GBTClassificationModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql.functions import col, from_json

from schemas import use_case
from schemas.shapes import model_inputs
from spark.features import features_ddl, vectors
from spark.session import start


def main(folder: Path, port: int, seconds: float) -> None:
    """Run until the process is ended."""
    case = use_case("flights")
    spark = start("streaming benchmark")
    # Micro-batches are small: every task more is overhead.
    spark.conf.set("spark.sql.shuffle.partitions", "1")
    model = GBTClassificationModel.load((folder / "spark").as_uri())
    categories = json.loads((folder / "categories.json").read_text())
    lines = spark.readStream.format("socket").option("host", "127.0.0.1").option("port", port).load()
    records = lines.select(from_json("value", f"record_id STRING, {features_ddl(case)}").alias("record")).select(
        "record.*"
    )
    scored = model.transform(vectors(records, model_inputs(case), categories)).select(
        "record_id", vector_to_array(col("probability"))[1].alias("probability")
    )
    scored.writeStream.foreachBatch(_print).trigger(processingTime=f"{seconds} seconds").start().awaitTermination()


def _print(batch: DataFrame, _: int) -> None:
    answers = batch.collect()
    sys.stdout.write("".join(f"{row.record_id} {row.probability!r}\n" for row in answers))
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), float(sys.argv[3]))
