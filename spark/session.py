"""The drivers' Spark session: the few settings whose defaults do not fit small clusters and many small objects."""

from pyspark.sql import SparkSession

SETTINGS = {
    # Times are instants, and the archive's days are UTC days.
    "spark.sql.session.timeZone": "UTC",
    # The number of shuffle partitions is set below from the cores there are; AQE merges what turns out small.
    "spark.sql.adaptive.enabled": "true",
    # With this rule, AQE drops a part of the plan that turns out to be empty, and the counts observed in it are lost.
    "spark.sql.adaptive.optimizer.excludedRules": ("org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"),
    # What is shuffled is small, too: below the default (1 MB) AQE leaves it to a single task, and one core then writes
    # all days of a conversion.
    "spark.sql.adaptive.coalescePartitions.minPartitionSize": "64k",
    # Archive objects are small: many go into one task, so opening one is priced low. The default (4 MB) makes Spark
    # plan a task for every few objects; and a task that Python helps costs some 40 ms by itself.
    "spark.sql.files.openCostInBytes": "4096",
    # An object store has no places to run a task near to, and asking for them costs a call for each object.
    "spark.sql.sources.ignoreDataLocality": "true",
    # Day folders are listed in the driver up to this many, and beyond it by a few tasks, not by one task a folder.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "128",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "16",
    # A session of many jobs, as a backtest is, comes back to the same plans. Of compiled code Spark keeps a hundred
    # pieces by default, and one training has more: each would be compiled anew every time.
    "spark.sql.codegen.cache.maxEntries": "1000",
    # Rows cross to Python as Arrow batches, and a type that cannot is an error, not a slow path.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.pyspark.fallback.enabled": "false",
    # A batch of lines waits as a whole in memory, and a task has at most this much of them. The default is 128 MB.
    "spark.sql.files.maxPartitionBytes": "32m",
    # Times are written as every other system reads them, and those before 1900 as what they are. By default Spark
    # refuses them: Spark 2 counted days before 1582, and zones before 1900, in another way.
    # https://spark.apache.org/docs/3.5.6/sql-data-sources-parquet.html#configuration
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    # A driver that logs a progress line needs no bar on the same stream.
    "spark.ui.showConsoleProgress": "false",
}


def start(name: str) -> SparkSession:
    """Start the session, or return the one that runs. Master and storage settings come from whoever submits."""
    builder = SparkSession.builder.appName(name)
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    # Boosting runs hundreds of small jobs: ten lines for each would bury the driver's own, and take their time.
    spark.sparkContext.setLogLevel("WARN")
    spark.conf.set("spark.sql.shuffle.partitions", str(2 * spark.sparkContext.defaultParallelism))
    return spark
