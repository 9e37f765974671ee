"""What the cases run as Spark applications: job.py WHAT URL [OPTION=VALUE...]. The last lines are `RESULT {...}`."""

import json
import sys
import time
import urllib.request

from pyspark.sql import SparkSession

MB = 1 << 20


def result(**values):
    print("RESULT " + json.dumps(values), flush=True)


def served(datanodes):
    """Bytes that datanodes sent to readers on their own node, and elsewhere, by the datanodes' own count."""
    sums = {"local": 0, "remote": 0}
    for address in datanodes.split(","):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                for where in sums:
                    if line.startswith(f'datanode_served_bytes_total{{peer="{where}"}}'):
                        sums[where] += int(float(line.split()[-1]))
    return sums


def hadoop(spark, url):
    jvm = spark._jvm
    fs = jvm.org.apache.hadoop.fs.FileSystem.get(jvm.java.net.URI(url), spark._jsc.hadoopConfiguration())
    return fs, jvm.org.apache.hadoop.fs.Path


def write(spark, url, rows="3000000", files="24"):
    """A table in each format, in so many files that none has two blocks."""
    data = spark.range(0, int(rows), 1, int(files)).selectExpr("id", "xxhash64(id) as hash", "cast(id % 97 as string) as kind")
    began = time.time()
    data.write.mode("overwrite").parquet(f"{url}/parquet")
    data.write.mode("overwrite").csv(f"{url}/csv")
    result(rows=int(rows), seconds=round(time.time() - began, 1))


def scan(spark, url, datanodes, rounds="1"):
    """Reads what `write` wrote, in every way that Spark has; sums prove that all was read."""
    rows = spark.read.parquet(f"{url}/parquet").count()
    whole = rows * (rows - 1) // 2
    seen = {}

    def way(name, read, expected):
        spark.sparkContext.setJobGroup(name, name)
        before, began = served(datanodes), time.time()
        for _ in range(int(rounds)):
            found = read()
            if found != expected:
                raise SystemExit(f"{name}: expected {expected}, found {found}")
        took, after = time.time() - began, served(datanodes)
        seen[name] = {"seconds": round(took, 2), **{where: after[where] - before[where] for where in before}}

    def total(frame, column):
        return int(frame.selectExpr(f"sum(cast({column} as bigint))").first()[0])

    lines = f"{url}/csv"
    way("parquet", lambda: total(spark.read.parquet(f"{url}/parquet"), "id + length(kind) + hash - hash") > 0, True)
    way("sum", lambda: total(spark.read.parquet(f"{url}/parquet"), "id"), whole)
    way("csv", lambda: total(spark.read.csv(lines), "_c0"), whole)
    way("text", lambda: spark.read.text(lines).count(), rows)
    way("textFile", lambda: spark.sparkContext.textFile(lines).count(), rows)
    way("newAPIHadoopFile", lambda: spark.sparkContext.newAPIHadoopFile(
        lines, "org.apache.hadoop.mapreduce.lib.input.TextInputFormat", "org.apache.hadoop.io.LongWritable",
        "org.apache.hadoop.io.Text").count(), rows)
    result(ways=seen)


def through_a_mount(spark, url, folder):
    """Writes and reads through a mounted volume, and the same files through hdfs:// as the volume's folder is there."""
    data = spark.range(0, 400_000, 1, 6).selectExpr("id", "id % 13 as part")
    data.write.mode("overwrite").parquet(f"file://{folder}/table")
    found = spark.read.parquet(f"file://{folder}/table").selectExpr("sum(id)", "count(*)").first()
    # More than the memory of a sort: it spills to spark.local.dir, where the volume may be.
    spread = spark.range(0, 1_500_000, 1, 6).selectExpr("id", "xxhash64(id) as hash", "repeat('x', 60) as fill")
    ordered = spread.repartition(8, "hash").sortWithinPartitions("hash").selectExpr("count(*)", "sum(id)").first()
    result(sum=int(found[0]), rows=int(found[1]), sorted_rows=int(ordered[0]), sorted_sum=int(ordered[1]))


def feed(spark, url, rows="200", batches="0"):
    """Puts a file after the other into a folder, each whole at once under its number; goes on where it was stopped."""
    fs, path = hadoop(spark, url)
    folder, staging = f"{url}/in", f"{url}/staging"
    fs.mkdirs(path(folder))
    fs.mkdirs(path(staging))
    numbers = [int(status.getPath().getName().split(".")[0]) for status in fs.listStatus(path(folder))]
    number, rows = max(numbers, default=-1) + 1, int(rows)
    print(f"FEED begins at {number}", flush=True)
    while not int(batches) or number < int(batches):
        fs.delete(path(f"{staging}/{number}"), True)
        (spark.range(number * rows, (number + 1) * rows, 1, 1).selectExpr("id", f"{number} as batch")
         .write.parquet(f"{staging}/{number}"))
        part = next(status.getPath() for status in fs.listStatus(path(f"{staging}/{number}"))
                    if status.getPath().getName().startswith("part-"))
        if not fs.rename(part, path(f"{folder}/{number}.parquet")):
            raise SystemExit(f"batch {number} is there already")
        print(f"FEED {number} {time.time():.3f}", flush=True)
        number += 1
        time.sleep(2)
        if fs.exists(path(f"{url}/stop")):
            break
    result(batches=number, rows=number * rows)


def follow(spark, url):
    """Follows the folder of `feed` into a table, until the stop file is there and nothing is left to read."""
    fs, path = hadoop(spark, url)
    fs.mkdirs(path(f"{url}/in"))
    stream = (spark.readStream.schema("id long, batch int").parquet(f"{url}/in")
              .selectExpr("*", "_metadata.file_modification_time as closed", "current_timestamp() as began")
              .writeStream.format("parquet").option("path", f"{url}/out").option("checkpointLocation", f"{url}/checkpoint")
              .trigger(processingTime="1 second").start())
    while not fs.exists(path(f"{url}/stop")):
        stream.awaitTermination(2)
    stream.processAllAvailable()
    stream.stop()
    out = spark.read.parquet(f"{url}/out")
    waits = out.selectExpr("batch", "cast(began as double) - cast(closed as double) as late").distinct()
    # The last ones were written while nobody was killed.
    late = sorted(row.late for row in waits.orderBy("batch", ascending=False).limit(10).collect())
    rows, distinct, top = out.selectExpr("count(*)", "count(distinct id)", "max(id)").first()
    result(rows=rows, distinct=distinct, top=top, late_median=round(late[len(late) // 2], 2), late_most=round(late[-1], 2))


def grow_and_shrink(spark, url):
    """A stage with much work, a pause, a stage that needs what was shuffled; how many executors there were."""
    counts = []

    def executors():
        # The driver is there too, and what stands for the fallback storage.
        hosts = spark._jsc.sc().getExecutorMemoryStatus().keySet().mkString(",").split(",")
        return sum(not host.startswith("remote:") for host in hosts) - 1

    def look(seconds, until):
        end = time.time() + seconds
        while time.time() < end:
            counts.append(executors())
            if until(counts[-1]):
                return True
            time.sleep(0.5)
        return False

    look(60, lambda count: count >= 1)
    begin = counts[-1]
    data = spark.sparkContext.parallelize(range(36), 36)

    def work(number):
        time.sleep(2)
        return number % 6, number

    import threading
    shuffled = data.map(work).groupByKey(6).mapValues(sum)
    first = {}
    thread = threading.Thread(target=lambda: first.update(shuffled.collect()))
    thread.start()
    while thread.is_alive():
        counts.append(executors())
        time.sleep(0.5)
    most = max(counts)
    shrunk = look(120, lambda count: count <= 1)
    again = dict(shuffled.collect())
    fallback = 0
    folder = spark.conf.get("spark.storage.decommission.fallbackStorage.path", "")
    if folder:
        fs, path = hadoop(spark, folder)
        if fs.exists(path(folder)):
            files = fs.listFiles(path(folder), True)
            while files.hasNext():
                files.next()
                fallback += 1
    expected = {key: sum(range(key, 36, 6)) for key in range(6)}
    result(begin=begin, most=most, shrunk=shrunk, end=executors(), right=first == expected and again == expected,
           fallback_files=fallback)


def long_job(spark, url, rounds="8", rows="3000000"):
    """Writes, reads back and compares in rounds, each announced: something may be broken meanwhile."""
    rows = int(rows)
    for number in range(int(rounds)):
        print(f"ROUND {number}", flush=True)
        table = f"{url}/round-{number}"
        spark.range(0, rows, 1, 12).selectExpr("id", "xxhash64(id) as hash").write.mode("overwrite").parquet(table)
        found = spark.read.parquet(table).selectExpr("sum(id)", "count(*)", "count_if(hash <> xxhash64(id))").first()
        if tuple(found) != (rows * (rows - 1) // 2, rows, 0):
            raise SystemExit(f"round {number}: {found}")
    result(rounds=int(rounds))


def mounted_rounds(spark, url, folder, rounds="5"):
    """As `long_job`, through a mounted volume."""
    long_job(spark, f"file://{folder}", rounds, "1000000")


def shuffle_and_wait(spark, url):
    """Shuffles, waits until it is told to go on, and reads what was shuffled."""
    fs, path = hadoop(spark, url)
    grouped = spark.sparkContext.parallelize(range(600), 6).map(lambda number: (number % 6, number)).groupByKey(6)
    first = dict(grouped.mapValues(sum).collect())
    print("SHUFFLED", flush=True)
    while not fs.exists(path(f"{url}/go-on")):
        time.sleep(1)
    again = dict(grouped.mapValues(sum).collect())
    fallback = 0
    if fs.exists(path(f"{url}/fallback")):
        files = fs.listFiles(path(f"{url}/fallback"), True)
        while files.hasNext():
            files.next()
            fallback += 1
    expected = {key: sum(range(key, 600, 6)) for key in range(6)}
    result(right=first == expected and again == expected, fallback_files=fallback)


def main():
    what, url, *options = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    globals()[what](spark, url, **dict(option.split("=", 1) for option in options))
    spark.stop()


main()
