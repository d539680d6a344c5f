"""Rows that the program holds, as a DataFrame."""

import json
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import from_json, inline, lit


def literal(spark: SparkSession, rows: Sequence[dict[str, Any]], ddl: str) -> DataFrame:
    """``rows`` under the schema ``ddl``; a key that a row lacks is null.

    ``createDataFrame`` would have a Python worker hand them over, whose start takes a second of a job.
    """
    return spark.range(1).select(inline(from_json(lit(json.dumps(rows)), f"ARRAY<STRUCT<{ddl}>>")))
