"""One Spark job on one file system: spark_job.py FOLDER ROWS. Prints the seconds of its steps."""

import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main():
    folder, rows = sys.argv[1], int(sys.argv[2])
    spark = (SparkSession.builder.master("local[2]").appName("bench").config("spark.ui.enabled", "false")
             .config("spark.sql.shuffle.partitions", "4").config("spark.driver.memory", "2g")
             .config("spark.hadoop.dfs.replication", "1").getOrCreate())
    spark.sparkContext.setLogLevel("ERROR")

    def step(name, work):
        began = time.monotonic()
        work()
        print(f"RESULT {name} {time.monotonic() - began:.3f}", flush=True)

    # The session's own start is nobody's.
    spark.range(1000).selectExpr("sum(id)").collect()
    # Text that does not compress away: some 100 bytes a row.
    facts = spark.range(rows, numPartitions=8).select(
        "id", (f.col("id") % 1000).alias("key"), f.sha2(f.col("id").cast("string"), 256).alias("text"), f.rand(1).alias("x"))
    facts_at, keys_at = f"{folder}/facts", f"{folder}/keys"
    spark.range(1000).select(f.col("id").alias("key"), (f.col("id") % 7).alias("group")).write.parquet(keys_at)
    step("write", lambda: facts.write.option("compression", "none").parquet(facts_at))
    read = spark.read.parquet(facts_at)
    step("scan", lambda: read.selectExpr("sum(x)", "max(text)", "count(distinct key)").collect())
    joined = read.join(spark.read.parquet(keys_at), "key")
    step("join", lambda: joined.groupBy("group").agg(f.sum("x"), f.count("*")).collect())
    step("wide", lambda: joined.write.option("compression", "none").partitionBy("group").parquet(f"{folder}/wide"))
    spark.stop()


main()
