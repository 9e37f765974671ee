"""A plain PySpark job: nothing in it, and nothing around it, knows SteadFS.

flights_job.py HDFS_URL RESULT_JSON

Reads URL/flights.csv, writes it as Parquet partitioned by month, reads that back, aggregates the delays by carrier,
writes the table, and leaves the numbers in RESULT_JSON for a comparison. Phases are told on standard output.
"""

import json
import sys

from pyspark.sql import SparkSession, functions as F

url, result = sys.argv[1], sys.argv[2]
spark = (SparkSession.builder.appName("flights").master("local[2]")
         .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
         .config("spark.driver.host", "127.0.0.1")
         .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "4").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")

print("PHASE read", flush=True)
flights = spark.read.csv(f"{url}/flights.csv", header=True, inferSchema=True, nullValue="")
print("PHASE write", flush=True)
flights.repartition(8).write.partitionBy("month").parquet(f"{url}/flights.parquet")
print("PHASE back", flush=True)
back = spark.read.parquet(f"{url}/flights.parquet")
table = (back.groupBy("carrier")
         .agg(F.count("*").alias("flights"), F.avg("dep_delay").alias("departure_delay"),
              F.avg("arr_delay").alias("arrival_delay"), F.sum("distance").alias("miles"))
         .orderBy("carrier"))
print("PHASE table", flush=True)
table.coalesce(1).write.csv(f"{url}/delays", header=True)
rows = [row.asDict() for row in table.collect()]
months = sorted(row["month"] for row in back.select("month").distinct().collect())
with open(result, "w") as out:
    json.dump({"rows": back.count(), "months": months, "carriers": rows, "spark": spark.version}, out)
spark.stop()
print("PHASE done", flush=True)
