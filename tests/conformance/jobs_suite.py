"""Spark jobs that fail and go on, on SteadFS: a stream that is killed, tasks that fail in the middle of writing, and the
history server reading a job's log while the job writes it.

jobs_suite.py --binary STEADFS      run with the python of a venv of PySpark
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from cluster import Cluster, Failure, wait_for
from peer import free_port, write_settings
from suite import Suite, has, same

HERE = Path(__file__).resolve().parent
FILES = 12
LINES = 500
KILLS = 2
SECONDS = 240


class World:
    def __init__(self, cluster):
        self.cluster, self.url = cluster, cluster.url.rstrip("/")
        self.session = None

    @property
    def spark(self):
        if self.session is None:
            from pyspark.sql import SparkSession
            self.session = (
                SparkSession.builder.appName("jobs").master("local[2,4]").config("spark.ui.enabled", "false")
                .config("spark.ui.showConsoleProgress", "false").config("spark.driver.host", "127.0.0.1")
                .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "2")
                .config("spark.eventLog.enabled", "true").config("spark.eventLog.dir", f"{self.url}/events")
                .config("spark.eventLog.rolling.enabled", "false").config("spark.eventLog.compress", "false").getOrCreate())
            self.session.sparkContext.setLogLevel("OFF")
        return self.session

    def end(self):
        if self.session:
            self.session.stop()
            self.session = None

    def names(self, folder):
        return self.cluster.run("fs", "ls", folder).stdout


class Stream:
    """The stream in a process of its own."""

    def __init__(self, world, log, until):
        self.log = log
        self.process = subprocess.Popen([sys.executable, HERE / "streaming_job.py", world.url, "/stream", until],
                                        stdin=subprocess.DEVNULL, stdout=open(log, "ab"), stderr=subprocess.STDOUT,
                                        start_new_session=True)

    def alive(self):
        if self.process.poll() is not None:
            raise Failure(f"the stream ended: {self.log.read_text()[-3000:]}")
        return True

    def kill(self):
        """Python and its JVM at once, as when the driver's machine is lost."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def committed(world, name):
    """The last batch that the checkpoint has as done; -1 before the first."""
    listed = world.cluster.run("fs", "ls", f"/stream/checkpoint-{name}/commits", check=False).stdout.split()
    return max((int(path.rsplit("/", 1)[-1]) for path in listed if path.rsplit("/", 1)[-1].isdigit()), default=-1)


def killed_stream(world):
    """The driver is killed over and over: nothing is lost, nothing doubled, and state goes on."""
    world.cluster.run("fs", "mkdir", "-p", "/stream/source")
    local = world.cluster.folder / "lines"
    for file in range(FILES):
        local.write_text("".join(json.dumps({"id": file * LINES + line, "day": line % 7}) + "\n" for line in range(LINES)))
        world.cluster.run("fs", "put", local, f"/stream/source/{file:03}.json")
    log = world.cluster.folder / "stream.log"
    for kill in range(KILLS):
        target = (kill + 1) * FILES // (KILLS + 2)
        stream = Stream(world, log, "forever")
        try:
            wait_for(lambda: stream.alive() and committed(world, "plain") >= target, SECONDS, f"batch {target} of the stream")
        finally:
            stream.kill()
    stream = Stream(world, log, "rest")
    try:
        same(stream.process.wait(SECONDS), 0, f"the stream's end: {log.read_text()[-2000:]}")
    finally:
        stream.kill()
    frame = world.spark.read.parquet(f"{world.url}/stream/sink")
    row = frame.selectExpr("count(*) as n", "count(distinct id) as ids", "sum(id) as total").first()
    rows = FILES * LINES
    same(tuple(row), (rows, rows, sum(range(rows))), "rows, different rows and their sum")
    # A file that was found just before a kill comes with the next one in one batch.
    last = committed(world, "counted")
    counts = world.spark.read.parquet(f"{world.url}/stream/counts/{last}").collect()
    expected = {day: FILES * len(range(day, LINES, 7)) for day in range(7)}
    same({row["day"]: row["count"] for row in counts}, expected, "counts from state")


def failing_tasks(world):
    """A task that fails after it wrote is tried again; both commit algorithms leave each row once, and nothing else."""
    from pyspark import TaskContext

    def fail_once(number, rows):
        yield from rows
        if number % 2 == 0 and TaskContext.get().attemptNumber() == 0:
            raise RuntimeError("on purpose")

    for algorithm in ("1", "2"):
        conf = world.spark.sparkContext._jsc.hadoopConfiguration()
        conf.set("mapreduce.fileoutputcommitter.algorithm.version", algorithm)
        target = f"{world.url}/failing-{algorithm}"
        rdd = world.spark.sparkContext.parallelize(range(4_000), 8).mapPartitionsWithIndex(fail_once).map(str)
        rdd.saveAsTextFile(f"{target}-text")
        same(sorted(map(int, world.spark.sparkContext.textFile(f"{target}-text").collect())), list(range(4_000)), algorithm)
        frame = world.spark.createDataFrame(rdd.map(lambda text: (int(text),)), "id long")
        frame.write.parquet(target)
        same(world.spark.read.parquet(target).selectExpr("count(*)", "sum(id)").first()[:], (4_000, sum(range(4_000))))
        for name in (f"/failing-{algorithm}", f"/failing-{algorithm}-text"):
            same("_temporary" in world.names(name), False, f"{name}: {world.names(name)}")
            has(world.names(name), "_SUCCESS")
        conf.unset("mapreduce.fileoutputcommitter.algorithm.version")


def ask(port, path):
    """What the history server answers; None as long as it cannot."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None


def history_server(world):
    """The stock history server shows a job while its log grows on SteadFS, and again when it has ended."""
    import pyspark
    port = free_port()
    folder = world.cluster.folder / "history"
    folder.mkdir()
    write_settings(folder / "core-site.xml", {"fs.defaultFS": world.url})
    options = {"spark.history.fs.logDirectory": f"{world.url}/events", "spark.history.ui.port": port,
               "spark.history.fs.update.interval": "1s", "spark.history.fs.inProgressOptimization.enabled": "true"}
    environment = dict(os.environ, SPARK_HOME=pyspark.__path__[0], SPARK_LOCAL_IP="127.0.0.1", SPARK_CONF_DIR=str(folder),
                       HADOOP_CONF_DIR=str(folder), SPARK_DAEMON_MEMORY="512m",
                       SPARK_HISTORY_OPTS=" ".join(f"-D{key}={value}" for key, value in options.items()))
    log = open(folder / "log", "wb")
    server = subprocess.Popen([f"{pyspark.__path__[0]}/bin/spark-class", "org.apache.spark.deploy.history.HistoryServer"],
                              env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        application = world.spark.sparkContext.applicationId
        world.spark.range(1000).selectExpr("sum(id)").collect()

        def jobs():
            if server.poll() is not None:
                raise Failure(f"the history server ended: {(folder / 'log').read_text()[-2000:]}")
            told = ask(port, f"applications/{application}/jobs")
            return told if told and all(job["status"] == "SUCCEEDED" for job in told) else None

        first = wait_for(jobs, SECONDS, "the history server shows the running job", 0.5)
        running = ask(port, f"applications/{application}")
        same(running["attempts"][0]["completed"], False, "completed while it runs")
        # The log grows in a file that is open; the server must see what was flushed since.
        world.spark.range(1000).selectExpr("max(id)").collect()
        wait_for(lambda: len(jobs() or ()) > len(first), SECONDS, "the history server shows the next job", 0.5)
        world.end()
        wait_for(lambda: (ask(port, f"applications/{application}") or {"attempts": [{"completed": False}]})
                 ["attempts"][0]["completed"], SECONDS, "the history server shows the end", 0.5)
        same(len(jobs()) > len(first), True, "jobs at the end")
    finally:
        server.terminate()
        server.wait(30)


CHECKS = [killed_stream, failing_tasks, history_server]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    import pyspark
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    version = re.match(r"[\d.]+", pyspark.__version__)[0]
    suite = Suite()
    with Cluster(options.binary) as cluster:
        cluster.run("fs", "mkdir", "/events")
        world = World(cluster)
        for check in CHECKS:
            suite.check(f"PySpark {version} {check.__name__}", check, world)
        world.end()
    suite.end()


main()
