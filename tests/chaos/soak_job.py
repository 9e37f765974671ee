"""A Spark job of the soak: tables are written, read back and compared, and old ones deleted, until the time is over.

soak_job.py URL SECONDS, with the python of a venv of PySpark. Prints a line for each round.
"""

import sys
import time

from pyspark.sql import SparkSession

ROWS = 20_000
KEPT = 3
# As clients are told that shall go on while a namenode is started again.
PATIENT = {"dfs.client.retry.policy.enabled": "true", "dfs.client.retry.policy.spec": "200,300",
           "ipc.client.connect.max.retries": "100", "ipc.client.connect.retry.interval": "200", "dfs.replication": "2",
           "dfs.blocksize": "262144", "dfs.client.socket-timeout": "10000",
           "dfs.client.block.write.locateFollowingBlock.retries": "10"}


def main():
    url, seconds = sys.argv[1], float(sys.argv[2])
    builder = (SparkSession.builder.appName("soak").master("local[1,4]").config("spark.ui.enabled", "false")
               .config("spark.ui.showConsoleProgress", "false").config("spark.driver.host", "127.0.0.1")
               .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "2")
               .config("spark.driver.memory", "512m"))
    for key, value in PATIENT.items():
        builder = builder.config(f"spark.hadoop.{key}", value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    hadoop = spark._jvm.org.apache.hadoop.fs
    fs = hadoop.FileSystem.get(spark._jvm.java.net.URI(url), spark._jsc.hadoopConfiguration())
    written, number, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        target = f"{url}/spark/{number}"
        try:
            table = spark.range(number, number + ROWS).selectExpr("id", "id % 7 as day", "concat('name-', id) as name")
            table.write.mode("overwrite").partitionBy("day").parquet(target)
            written.append(number)
        except Exception as error:  # noqa: BLE001 - a job may fail while everything is killed; what it says it wrote must be there
            print(f"round {number} failed: {str(error).splitlines()[0][:200]}", flush=True)
            time.sleep(2)
            continue
        for old in written:
            if not right(spark, f"{url}/spark/{old}", old):
                print(f"WRONG: table {old} is not as it was written", flush=True)
                sys.exit(1)
        while len(written) > KEPT:
            fs.delete(hadoop.Path(f"{url}/spark/{written.pop(0)}"), True)
        print(f"round {number}: {len(written)} tables are right", flush=True)
        time.sleep(max(0, min(20, end - time.monotonic())))
    spark.stop()


def right(spark, target, first):
    """Whether the table is as it was written; reading may be tried again while things are killed."""
    wanted = (ROWS, sum(range(first, first + ROWS)))
    for _ in range(10):
        try:
            row = spark.read.parquet(target).selectExpr("count(*) as n", "sum(id) as ids").first()
            return (row["n"], row["ids"]) == wanted
        except Exception:  # noqa: BLE001
            time.sleep(3)
    return False


if __name__ == "__main__":
    main()
