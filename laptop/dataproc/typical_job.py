"""What jobs of this kind do, on a few rows, in one session: ``class_archive.py`` keeps the classes that it loads.

``spark-submit typical_job.py FOLDER``, with an empty folder or bucket.
"""

import sys

from pyspark.ml.classification import GBTClassifier
from pyspark.ml.feature import StringIndexerModel, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession
from pyspark.sql.functions import broadcast, col, expr

ROWS = """
SELECT CAST(id AS STRING) AS record_id, TIMESTAMP '2024-01-01 00:00:00' + make_interval(0, 0, 0, id % 3) AS event_time,
       struct(CAST(id % 7 AS DOUBLE) AS number, substr('xyz', id % 3 + 1, 1) AS category) AS features,
       CAST(id % 2 AS DOUBLE) AS label
FROM range(600)
"""
NEWEST = "max_by(struct(event_time, features, label), event_time) AS newest"
RANK = "row_number() OVER (PARTITION BY number ORDER BY count DESC) AS rank"


def main(folder: str) -> None:
    """JSON to Parquet by day, with a window and joins; boosted trees on it; scores written and taken to Python."""
    spark = SparkSession.builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
    spark.sql(ROWS).repartition(3).write.json(f"{folder}/archive")
    read = spark.read.schema(spark.sql(ROWS).schema).json(f"{folder}/archive")
    rows = (
        read.groupBy("record_id").agg(expr(NEWEST)).selectExpr("record_id", "newest.*", "DATE(newest.event_time) AS dt")
    )
    labels = read.groupBy("record_id").agg(expr("max(label) AS known"))
    rows.join(labels, "record_id", "left").write.partitionBy("dt").parquet(f"{folder}/days")

    days = spark.read.parquet(f"{folder}/days").selectExpr("*", "features.*")
    counts = days.selectExpr("inline(array(struct(number, 1 AS one)))").groupBy("number").count()
    counts = counts.selectExpr("number AS group", "sum(count) OVER () AS total", RANK)
    counts.collect()
    indexer = StringIndexerModel.from_labels(["x", "y"], inputCol="category", outputCol="place", handleInvalid="keep")
    frame = indexer.transform(days).join(broadcast(counts), expr("number = group"), "left")
    frame = VectorAssembler(inputCols=["number", "place", "total"], outputCol="vector").transform(frame)
    table = frame.repartition(2, "record_id").sortWithinPartitions("record_id").cache().localCheckpoint()

    trees = GBTClassifier(
        featuresCol="vector", labelCol="label", maxIter=3, maxDepth=3, featureSubsetStrategy="onethird"
    )
    model = trees.fit(table)
    scored = model.transform(frame).withColumn("answer", vector_to_array(col("probability"))[1])
    scored.approxQuantile("answer", [0.5], 0.001)
    scored.select("record_id", "dt", "answer").write.parquet(f"{folder}/scores")
    spark.read.parquet(f"{folder}/scores").orderBy(expr("xxhash64(record_id)")).limit(5).toPandas()


if __name__ == "__main__":
    main(sys.argv[1])
