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
# How often a table is tried to be read, with three seconds between: a disk fault may last minutes on a busy machine.
TRIES = 100


def main():
    url, seconds = sys.argv[1], float(sys.argv[2])
    builder = (SparkSession.builder.appName("soak").master("local[1,4]").config("spark.ui.enabled", "false")
               .config("spark.ui.showConsoleProgress", "false").config("spark.driver.host", "127.0.0.1")
               .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "2")
               .config("spark.driver.memory", "512m")
               # A machine that has no time for it is not a job that is lost.
               .config("spark.executor.heartbeatInterval", "60s").config("spark.network.timeout", "900s"))
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
            if wrong := fault(spark, f"{url}/spark/{old}", old):
                print(f"WRONG: table {old} is not as it was written: {wrong}", flush=True)
                sys.exit(1)
        while len(written) > KEPT:
            fs.delete(hadoop.Path(f"{url}/spark/{written.pop(0)}"), True)
        print(f"round {number}: {len(written)} tables are right", flush=True)
        time.sleep(max(0, min(20, end - time.monotonic())))
    spark.stop()


def fault(spark, target, first):
    """How the table is not as it was written; none if it is. Reading may be tried again while things are killed."""
    wanted, last = (ROWS, sum(range(first, first + ROWS))), None
    for _ in range(TRIES):
        try:
            row = spark.read.parquet(target).selectExpr("count(*) as n", "sum(id) as ids").first()
            seen = (row["n"], row["ids"])
            return None if seen == wanted else f"{seen} instead of {wanted}"
        except Exception as error:  # noqa: BLE001
            last = str(error).splitlines()[0][:300]
            time.sleep(3)
    return f"it cannot be read: {last}"


if __name__ == "__main__":
    main()
