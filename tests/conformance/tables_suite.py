"""Tables through stock Spark on hdfs://: Hive's catalogue, Iceberg by the rename of its metadata, Delta Lake.

tables_suite.py --binary STEADFS [--iceberg JAR] [--delta JAR,JAR]      run with the python of a venv of PySpark
"""

import argparse
import os
import re
import sys
import threading

from cluster import Cluster
from suite import Suite, has, same

ROWS = 2_000
WRITERS = 4


class World:
    """One session with the catalogues; the default file system is the cluster, as where HDFS is all there is."""

    def __init__(self, cluster, iceberg, delta):
        from pyspark.sql import SparkSession
        self.cluster, self.url = cluster, cluster.url.rstrip("/")
        folder = cluster.folder / "spark"
        folder.mkdir()
        # Hive's Derby and its log land where the process stands.
        os.chdir(folder)
        extensions = []
        settings = {
            "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": "2",
            "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
            "spark.hadoop.fs.defaultFS": self.url, "spark.sql.warehouse.dir": f"{self.url}/warehouse",
            "spark.hadoop.hive.exec.dynamic.partition.mode": "nonstrict",
        }
        if iceberg:
            extensions.append("org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
            settings.update({"spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
                             "spark.sql.catalog.lake.type": "hadoop",
                             "spark.sql.catalog.lake.warehouse": f"{self.url}/lake"})
        if delta:
            extensions.append("io.delta.sql.DeltaSparkSessionExtension")
            settings["spark.sql.catalog.spark_catalog"] = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
            # By default each look at the log is fifty tasks.
            settings["spark.databricks.delta.snapshotPartitions"] = "2"
            settings["spark.databricks.delta.properties.defaults.checkpointInterval"] = "4"
        jars = ",".join(filter(None, (iceberg, delta)))
        if jars:
            settings.update({"spark.jars": jars, "spark.sql.extensions": ",".join(extensions)})
        builder = SparkSession.builder.appName("tables").master("local[2]").enableHiveSupport()
        for key, value in settings.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()
        self.spark.sparkContext.setLogLevel("OFF")

    def sql(self, text):
        return [tuple(row) for row in self.spark.sql(text).collect()]

    def one(self, text):
        return self.sql(text)[0][0]

    def ls(self, path):
        """Paths below one, files and folders."""
        return [line.split(None, 7)[7] if len(line.split(None, 7)) > 7 else line.split()[-1]
                for line in self.cluster.run("fs", "ls", "-R", path).stdout.splitlines() if line.strip()]

    def frame(self, rows=ROWS):
        return self.spark.range(rows).selectExpr("id", "id % 5 as day", "concat('name-', id) as name")


def saved_as_table(world):
    """saveAsTable in its modes, partitioned and bucketed, and a table dropped with its files."""
    world.frame().write.partitionBy("day").saveAsTable("saved")
    same(world.one("select sum(id) from saved where day = 3"), sum(range(3, ROWS, 5)))
    world.frame(100).write.mode("append").partitionBy("day").saveAsTable("saved")
    same(world.one("select count(*) from saved"), ROWS + 100)
    world.frame(100).write.mode("overwrite").bucketBy(3, "id").sortBy("id").saveAsTable("saved")
    same(world.one("select count(*) from saved"), 100)
    has("\n".join(world.ls("/warehouse")), "/warehouse/saved")
    world.sql("drop table saved")
    same([path for path in world.ls("/warehouse") if "/saved" in path], [])


def hive_formats(world):
    """Tables that Hive itself writes: files are staged in a hidden folder and moved."""
    for kind in ("textfile", "orc", "parquet", "sequencefile"):
        world.spark.conf.set("spark.sql.hive.convertMetastoreOrc", "false")
        world.spark.conf.set("spark.sql.hive.convertMetastoreParquet", "false")
        world.sql(f"create table hive_{kind} (id bigint, name string) partitioned by (day bigint) stored as {kind}")
        world.frame().createOrReplaceTempView("frame")
        world.sql(f"insert into hive_{kind} partition (day) select id, name, day from frame")
        world.sql(f"insert overwrite table hive_{kind} partition (day = 3) select id, name from frame where id < 10")
        same(world.sql(f"select count(*), sum(id) from hive_{kind} where day = 3"), [(10, 45)], kind)
        same(world.one(f"select count(*) from hive_{kind}"), ROWS - ROWS // 5 + 10, kind)
        same([path for path in world.ls(f"/warehouse/hive_{kind}") if "staging" in path], [], "what is left")


def hive_partitions(world):
    """Partitions made, moved, found again and dropped; data that is loaded is moved, not copied."""
    world.sql("create table parts (id bigint) partitioned by (day string) stored as textfile")
    world.sql("alter table parts add partition (day = 'a') partition (day = 'b')")
    world.sql("insert into parts partition (day = 'a') values (1), (2)")
    world.sql("alter table parts partition (day = 'a') rename to partition (day = 'with space=%25')")
    same(world.sql("select day, sum(id) from parts group by day"), [("with space=%25", 3)])
    world.spark.range(10).selectExpr("cast(id as string)").coalesce(1).write.text(f"{world.url}/staged")
    world.sql(f"load data inpath '{world.url}/staged' into table parts partition (day = 'b')")
    same(world.one("select count(*) from parts where day = 'b'"), 10)
    same([path for path in world.ls("/staged") if "part-" in path], [], "what was loaded is gone from where it was")
    world.cluster.run("fs", "mkdir", "/warehouse/parts/day=c")
    world.sql("msck repair table parts")
    same(len(world.sql("show partitions parts")), 3)
    world.sql("alter table parts drop partition (day = 'c')")
    world.sql("truncate table parts")
    same(world.one("select count(*) from parts"), 0)
    world.sql("alter table parts rename to renamed")
    has("\n".join(world.ls("/warehouse")), "/warehouse/renamed")
    world.sql("create database base")
    world.sql("create table base.t as select 1 as one")
    world.sql("drop database base cascade")
    same([path for path in world.ls("/warehouse") if "base.db" in path], [])


def in_threads(work):
    """Runs work(0..) at once; the first failure is ours."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def iceberg(world):
    """A table in Iceberg's Hadoop catalogue: each commit is a rename that must not replace."""
    world.sql("create table lake.db.t (id bigint, day bigint, name string) using iceberg partitioned by (day)")
    world.frame().writeTo("lake.db.t").append()
    world.sql("delete from lake.db.t where day = 4")
    world.sql("update lake.db.t set name = 'new' where id = 3")
    world.frame(3_000).createOrReplaceTempView("more")
    world.sql("merge into lake.db.t t using more m on t.id = m.id when matched then update set t.name = 'merged' "
              "when not matched then insert *")
    same(world.sql("select count(*), sum(id) from lake.db.t"), [(3_000, sum(range(3_000)))])
    world.sql("alter table lake.db.t add column extra string")
    first = world.one("select snapshot_id from lake.db.t.snapshots order by committed_at limit 1")
    same(world.one(f"select count(*) from lake.db.t version as of {first}"), ROWS)
    world.sql("call lake.system.rewrite_data_files('db.t')")
    world.sql("call lake.system.expire_snapshots(table => 'db.t', older_than => timestamp '2100-01-01 00:00:00')")
    world.sql("call lake.system.remove_orphan_files(table => 'db.t', dry_run => true)")
    same(world.one("select count(*) from lake.db.t"), 3_000)
    metadata = [path for path in world.ls("/lake/db/t/metadata") if path.endswith(".metadata.json")]
    same(len(metadata) >= 5, True, metadata)


def iceberg_at_once(world):
    """Writers at once: who loses the rename tries again, and no rows are lost or doubled."""
    world.sql("create table lake.db.busy (id bigint, writer bigint) using iceberg "
              "tblproperties ('commit.retry.num-retries' = '20')")
    in_threads(lambda number: [world.spark.range(10).selectExpr("id", f"{number} as writer").coalesce(1)
                               .writeTo("lake.db.busy").append() for _ in range(3)])
    same(world.sql("select writer, count(*) from lake.db.busy group by writer order by writer"),
         [(number, 30) for number in range(WRITERS)])
    same(world.one("select count(*) from lake.db.busy.snapshots"), 3 * WRITERS)


def delta(world):
    """A Delta table: its log is written by FileContext's rename, which must not replace."""
    place = f"{world.url}/delta/t"
    world.frame().write.format("delta").partitionBy("day").save(place)
    world.sql(f"delete from delta.`{place}` where day = 4")
    world.frame(3_000).createOrReplaceTempView("more")
    world.sql(f"merge into delta.`{place}` t using more m on t.id = m.id when matched then update set t.name = 'merged' "
              "when not matched then insert *")
    same(world.sql(f"select count(*), sum(id) from delta.`{place}`"), [(3_000, sum(range(3_000)))])
    same(world.spark.read.format("delta").option("versionAsOf", 0).load(place).count(), ROWS)
    for _ in range(3):
        world.frame(1).write.format("delta").mode("append").save(place)
    has("\n".join(world.ls("/delta/t/_delta_log")), "checkpoint.parquet")
    world.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    world.sql(f"vacuum delta.`{place}` retain 0 hours")
    same(world.one(f"select count(*) from delta.`{place}`"), 3_003)


def delta_at_once(world):
    """Writers at once on one log."""
    place = f"{world.url}/delta/busy"
    world.spark.range(1).selectExpr("id", "-1 as writer").write.format("delta").save(place)
    in_threads(lambda number: [world.spark.range(10).selectExpr("id", f"{number} as writer").coalesce(1)
                               .write.format("delta").mode("append").save(place) for _ in range(3)])
    same(world.sql(f"select writer, count(*) from delta.`{place}` where writer >= 0 group by writer order by writer"),
         [(number, 30) for number in range(WRITERS)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--iceberg", default="")
    parser.add_argument("--delta", default="")
    options = parser.parse_args()
    import pyspark
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    version = re.match(r"[\d.]+", pyspark.__version__)[0]
    checks = [saved_as_table, hive_formats, hive_partitions]
    checks += [iceberg, iceberg_at_once] if options.iceberg else []
    checks += [delta, delta_at_once] if options.delta else []
    suite = Suite()
    with Cluster(os.path.abspath(options.binary)) as cluster:
        world = World(cluster, options.iceberg, options.delta)
        for check in checks:
            suite.check(f"PySpark {version} {check.__name__}", check, world)
        world.spark.stop()
        os.chdir("/")
    suite.end()


main()
