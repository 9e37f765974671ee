"""A structured stream for the suite that kills it: files in, Parquet out and counts kept in state; all of it on SteadFS.

streaming_job.py URL ROOT forever|rest      rest: ends when it has read what there is
"""

import sys

from pyspark.sql import SparkSession

url, root, until = sys.argv[1:]
trigger = {"availableNow": True} if until == "rest" else {"processingTime": "0 seconds"}
base = f"{url}{root}"
spark = (SparkSession.builder.appName("killed stream").master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
         .config("spark.sql.shuffle.partitions", "2")
         # Many small batches, so that a kill falls into each step of one.
         .config("spark.sql.streaming.minBatchesToRetain", "5").getOrCreate())
spark.sparkContext.setLogLevel("OFF")
source = spark.readStream.schema("id long, day long").option("maxFilesPerTrigger", 1).json(f"{base}/source")
plain = (source.writeStream.format("parquet").option("path", f"{base}/sink")
         .option("checkpointLocation", f"{base}/checkpoint-plain").trigger(**trigger).start())


def keep(batch, number):
    """Every batch is written whole under its number; one that is tried again replaces itself."""
    batch.coalesce(1).write.mode("overwrite").parquet(f"{base}/counts/{number}")


counted = (source.groupBy("day").count().writeStream.outputMode("complete").foreachBatch(keep)
           .option("checkpointLocation", f"{base}/checkpoint-counted").trigger(**trigger).start())
print("READY", flush=True)
if until == "rest":
    for query in (plain, counted):
        query.awaitTermination()
else:
    # Ends only if one of them fails, and says why.
    spark.streams.awaitAnyTermination()
