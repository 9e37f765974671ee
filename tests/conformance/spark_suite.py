"""What PySpark does with a file system, checked on SteadFS.

spark_suite.py --binary STEADFS      run with the python of a venv that holds stock PySpark
"""

import argparse
import os
import re

from cluster import Cluster
from suite import Suite, has, same

ROWS = 20_000


class World:
    """The session, the cluster, and Hadoop's own FileSystem as Spark's JVM has it."""

    def __init__(self, cluster):
        from pyspark.sql import SparkSession
        self.cluster = cluster
        self.url = cluster.url
        self.spark = (SparkSession.builder.appName("conformance").master("local[2]")
                      .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
                      .config("spark.driver.host", "127.0.0.1")
                      .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "2")
                      .config("spark.eventLog.enabled", "true").config("spark.eventLog.dir", f"{self.url}/events")
                      .getOrCreate())
        self.spark.sparkContext.setLogLevel("OFF")
        self.jvm = self.spark._jvm
        self.fs = self.jvm.org.apache.hadoop.fs.FileSystem.get(
            self.jvm.java.net.URI(self.url), self.spark._jsc.hadoopConfiguration())

    def path(self, text):
        return self.jvm.org.apache.hadoop.fs.Path(self.url + text)

    def names(self, folder):
        return sorted(status.getPath().getName() for status in self.fs.listStatus(self.path(folder)))

    def table(self, rows=ROWS):
        return self.spark.range(rows).selectExpr("id", "id % 7 as day", "concat('name-', id) as name", "id / 3 as share")


def sums(frame):
    row = frame.selectExpr("count(*) as n", "sum(id) as ids", "sum(length(name)) as letters").first()
    return row["n"], row["ids"], row["letters"]


def formats(world):
    """Every built-in format: what is written comes back."""
    frame = world.table()
    for kind in ("parquet", "orc", "json", "csv"):
        target = f"{world.url}/formats/{kind}"
        frame.write.format(kind).option("header", True).save(target)
        back = world.spark.read.format(kind).option("header", True).option("inferSchema", True).load(target)
        same(sums(back), sums(frame), kind)
        has(world.names(f"/formats/{kind}"), "_SUCCESS")


def text(world):
    lines = [f"line {number}" for number in range(5_000)]
    world.spark.sparkContext.parallelize(lines, 3).saveAsTextFile(f"{world.url}/text")
    same(sorted(world.spark.sparkContext.textFile(f"{world.url}/text").collect()), sorted(lines))
    same(len(world.names("/text")), 4)


def modes(world):
    """append, overwrite, ignore, and the refusal to write twice."""
    target = f"{world.url}/modes"
    frame = world.table(100)
    frame.write.parquet(target)
    frame.write.mode("append").parquet(target)
    same(world.spark.read.parquet(target).count(), 200)
    frame.write.mode("overwrite").parquet(target)
    same(world.spark.read.parquet(target).count(), 100)
    frame.write.mode("ignore").parquet(target)
    same(world.spark.read.parquet(target).count(), 100)
    try:
        frame.write.parquet(target)
    except Exception as error:
        has(str(error), "already exists")
    else:
        raise AssertionError("a second write was not refused")


def partitions(world):
    """Partitioned output, one partition read, one partition overwritten."""
    target = f"{world.url}/partitions"
    frame = world.table()
    frame.write.partitionBy("day").parquet(target)
    same([name for name in world.names("/partitions") if name.startswith("day=")], [f"day={day}" for day in range(7)])
    same(sums(world.spark.read.parquet(target).where("day = 3")), sums(frame.where("day = 3")))
    world.spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
    frame.where("day = 3").limit(10).write.mode("overwrite").partitionBy("day").parquet(target)
    world.spark.conf.unset("spark.sql.sources.partitionOverwriteMode")
    back = world.spark.read.parquet(target)
    same((back.where("day = 3").count(), back.count()), (10, ROWS - frame.where("day = 3").count() + 10))


def committer_v2(world):
    """The other commit algorithm, which renames by task."""
    target = f"{world.url}/v2"
    world.table().write.option("mapreduce.fileoutputcommitter.algorithm.version", "2").parquet(target)
    same(sums(world.spark.read.parquet(target)), sums(world.table()))
    same([name for name in world.names("/v2") if name.startswith("_temporary")], [])


def many_blocks(world):
    """A file of many small blocks, split over tasks and cut in the middle of lines."""
    out = world.fs.create(world.path("/blocks.csv"), True, 65_536, 3, 1 << 20)
    line = "x" * 99
    chunk = bytes("".join(f"{number:08d},{line}\n" for number in range(30_000)), "ascii")
    out.write(chunk)
    out.close()
    frame = world.spark.read.option("maxPartitionBytes", 1 << 20).csv(f"{world.url}/blocks.csv")
    same((frame.count(), frame.selectExpr("sum(cast(_c0 as bigint)) s").first()["s"]), (30_000, sum(range(30_000))))
    located = world.fs.getFileBlockLocations(world.path("/blocks.csv"), 0, len(chunk))
    same((len(located), len(located[0].getNames())), (-(-len(chunk) // (1 << 20)), 3), "blocks and replicas")


def streaming(world):
    """A structured stream with its checkpoint on SteadFS, stopped and started again."""
    source, sink, checkpoint = (f"{world.url}/stream/{name}" for name in ("source", "sink", "checkpoint"))
    frame = world.table(1_000)

    def step(part):
        frame.where(f"id % 2 = {part}").coalesce(1).write.mode("append").json(source)
        query = (world.spark.readStream.schema(frame.schema).json(source).writeStream.format("parquet")
                 .option("checkpointLocation", checkpoint).option("path", sink).trigger(availableNow=True).start())
        same(query.awaitTermination(120), True, "the stream ends")

    step(0)
    same(world.spark.read.parquet(sink).count(), 500)
    step(1)
    same(sums(world.spark.read.parquet(sink)), sums(frame))
    has(world.names("/stream/checkpoint"), "commits")


def rdd_checkpoint(world):
    world.spark.sparkContext.setCheckpointDir(f"{world.url}/checkpoints")
    rdd = world.spark.sparkContext.parallelize(range(1_000), 4).map(lambda number: number * 2)
    rdd.checkpoint()
    same((rdd.sum(), rdd.isCheckpointed()), (999_000, True))


def hadoop_api(world):
    """Hadoop's FileSystem as Spark's own code uses it: atomic rename, no replacement, append, flush, times."""
    fs, path = world.fs, world.path
    fs.mkdirs(path("/api/from"))
    out = fs.create(path("/api/from/file"))
    out.write(b"first")
    out.hflush()
    stream = fs.open(path("/api/from/file"))
    same("".join(chr(stream.read()) for _ in range(5)), "first", "flushed bytes are readable while the file is written")
    stream.close()
    out.write(b" second")
    out.hsync()
    out.close()
    same(fs.getFileStatus(path("/api/from/file")).getLen(), 12)
    same(fs.rename(path("/api/from"), path("/api/to")), True)
    same((fs.exists(path("/api/from")), fs.exists(path("/api/to/file"))), (False, True))
    same(fs.rename(path("/api/none"), path("/api/x")), False)
    more = fs.append(path("/api/to/file"))
    more.write(b" third")
    more.close()
    same(fs.getFileStatus(path("/api/to/file")).getLen(), 18)
    try:
        fs.create(path("/api/to/file"), False)
    except Exception as error:
        has(str(error), "FileAlreadyExistsException")
    else:
        raise AssertionError("create without overwrite replaced a file")
    same(fs.delete(path("/api"), True), True)
    summary = fs.getContentSummary(path("/formats"))
    same(summary.getDirectoryCount(), 5)


def event_log(world):
    """Spark's own log of this application grows in a file on SteadFS while it runs."""
    same(len(world.names("/events")) >= 1, True, "an event log")


def datanode_lost(world):
    """A datanode is killed between write and read, and during a write."""
    target = f"{world.url}/lost"
    frame = world.table()
    frame.repartition(6).write.parquet(target)
    world.cluster.kill_datanode(0)
    same(sums(world.spark.read.parquet(target)), sums(frame), "read after the loss")
    frame.repartition(6).write.parquet(f"{target}-2")
    same(sums(world.spark.read.parquet(f"{target}-2")), sums(frame), "written after the loss")


CHECKS = [formats, text, modes, partitions, committer_v2, many_blocks, streaming, rdd_checkpoint, hadoop_api, event_log,
          datanode_lost]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    import pyspark
    import sys
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    version = re.match(r"[\d.]+", pyspark.__version__)[0]
    suite = Suite()
    with Cluster(options.binary, "--set", "dead_after_ms=10000", datanodes=4) as cluster:
        cluster.run("fs", "mkdir", "/events")
        world = World(cluster)
        for check in CHECKS:
            suite.check(f"PySpark {version} {check.__name__}", check, world)
        world.spark.stop()
    suite.end()


main()
