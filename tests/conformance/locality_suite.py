"""Stock Spark runs its tasks beside their data, and reads it there.

locality_suite.py --binary STEADFS      run with the python of a venv that holds stock PySpark

Loopback addresses stand for pods. A standalone Spark cluster has an executor at each of PODS, which is the host it
registers with, and as on Kubernetes no datanode has such an address or name. Connections of an executor leave from its
pod's address (pod_address.c), so that servers see who asks, as they do in a pod network.
"""

import argparse
import collections
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from cluster import Cluster, wait_for
from suite import Suite, has, same

APPLICATION = "app-1"
DRIVER = "127.0.0.1"
# Two executors on each of three nodes.
PODS = {"127.0.1.1": "node-a", "127.0.1.2": "node-a", "127.0.2.1": "node-b", "127.0.2.2": "node-b",
        "127.0.3.1": "node-c", "127.0.3.2": "node-c"}
DATANODES = {"node-a": "127.0.9.1", "node-b": "127.0.9.2", "node-c": "127.0.9.3"}
BLOCK = 1 << 20
BLOCKS = 24
LEAST_LOCAL = 95.0
LEAST_LOCAL_BYTES = 95.0
START_SECONDS = 60
JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true"
SCANS = ("FileScanRDD", "HadoopRDD", "NewHadoopRDD", "DataSourceRDD")


class Spark:
    """A standalone Spark: a master, and a worker at each address."""

    def __init__(self, folder):
        import pyspark
        self.home = pyspark.__path__[0]
        self.folder = folder
        self.processes = []
        self.preload = folder / "pod_address.so"
        self.port, self.web = free_port(), free_port()

    def launch(self, name, address, *arguments):
        environment = dict(os.environ, SPARK_HOME=self.home, SPARK_LOCAL_IP=address, SPARK_DAEMON_MEMORY="128m",
                           SPARK_DAEMON_JAVA_OPTS=JAVA)
        if address != DRIVER:
            environment.update(LD_PRELOAD=str(self.preload), POD_ADDRESS=address)
        log = open(self.folder / f"{name}.log", "wb")
        command = [f"{self.home}/bin/spark-class", *arguments]
        self.processes.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def start(self, addresses):
        source = Path(__file__).with_name("pod_address.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.preload, source, "-ldl"], check=True)
        self.launch("master", DRIVER, "org.apache.spark.deploy.master.Master", "--host", DRIVER, "--port",
                    str(self.port), "--webui-port", str(self.web))
        for address in addresses:
            work = self.folder / "work" / address
            work.mkdir(parents=True)
            self.launch(f"worker-{address}", address, "org.apache.spark.deploy.worker.Worker", "--host", address,
                        "--cores", "1", "--memory", "512m", "--webui-port", "0", "--work-dir", str(work), self.url)
        wait_for(lambda: self.alive() == len(addresses), START_SECONDS, "the workers of Spark are there", 0.3)

    def alive(self):
        try:
            with urllib.request.urlopen(f"http://{DRIVER}:{self.web}/json/", timeout=2) as answer:
                workers = json.load(answer)["workers"]
        except OSError:
            return 0
        return sum(worker["state"] == "ALIVE" for worker in workers)

    @property
    def url(self):
        return f"spark://{DRIVER}:{self.port}"

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port(address=DRIVER):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


class Session:
    """One Spark application, its event log, and the levels of the tasks that read files."""

    def __init__(self, spark, folder):
        from pyspark.sql import SparkSession
        self.log = folder / "events"
        self.log.mkdir(exist_ok=True)
        settings = {
            "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": DRIVER, "spark.driver.bindAddress": DRIVER,
            "spark.executor.memory": "480m", "spark.executor.cores": "1", "spark.cores.max": str(len(PODS)),
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            # It is looked at whether Spark is told where data is, not how busy this machine is: by default Spark begins without
            # executors that take 30 s to come, and gives a task away after 3 s.
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "180s", "spark.locality.wait": "60s",
            "spark.executor.extraJavaOptions": JAVA,
            "spark.sql.files.maxPartitionBytes": str(BLOCK), "spark.sql.files.openCostInBytes": "0",
            "spark.hadoop.dfs.replication": "2",
            "spark.eventLog.enabled": "true", "spark.eventLog.dir": self.log.as_uri(),
            "spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false",
        }
        builder = SparkSession.builder.appName("locality").master(spark.url)
        for key, value in settings.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()
        self.spark.sparkContext.setLogLevel("OFF")
        self.application = self.spark.sparkContext.applicationId

    def end(self):
        """Stops the application; the tasks of each scan, by the name of its job group."""
        self.spark.stop()
        return scans(self.log / self.application)

    def group(self, name):
        self.spark.sparkContext.setJobGroup(name, name)


def scans(log):
    """Levels and hosts of the tasks of stages that read files, by job group."""
    groups, found = {}, collections.defaultdict(list)
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            kind = event["Event"]
            if kind == "SparkListenerStageSubmitted":
                info = event["Stage Info"]
                names = [rdd["Name"] for rdd in info["RDD Info"]]
                if any(name.startswith(SCANS) or name.startswith("hdfs://") for name in names):
                    groups[info["Stage ID"]] = event["Properties"].get("spark.jobGroup.id", "")
            elif kind == "SparkListenerTaskStart" and event["Stage ID"] in groups:
                task = event["Task Info"]
                found[groups[event["Stage ID"]]].append((task["Locality"], task["Host"]))
    return found


def read_all(session, cluster, every):
    """
    Each way of reading, or one of each kind; counts prove that all was read. Gives the bytes served for Parquet: readers
    of lines open the next block too, wherever it is, and drop most of what the datanode sends of it.
    """
    spark, url = session.spark, cluster.url
    session.group("read.text")
    same(spark.read.text(f"{url}/lines").count(), LINES, "lines by read.text")
    if every:
        session.group("read.csv")
        same(spark.read.csv(f"{url}/lines").count(), LINES, "lines by read.csv")
    session.group("read.parquet")
    before = served(cluster)
    same(spark.read.parquet(f"{url}/table").selectExpr("sum(id)").first()[0], sum(range(ROWS)), "sum by read.parquet")
    parquet = served(cluster)
    parquet.subtract(before)
    if every:
        # Executors, not the driver, list so many folders.
        session.group("paths")
        read = spark.read.parquet(f"{url}/paths")
        same(read.selectExpr("sum(id)", "count(distinct part)").first()[:], (sum(range(PATH_ROWS)), PATHS), "sum by paths")
        spark.conf.set("spark.sql.sources.useV1SourceList", "")
        session.group("V2")
        same(spark.read.text(f"{url}/lines").count(), LINES, "lines by a V2 source")
    session.group("textFile")
    same(spark.sparkContext.textFile(f"{url}/lines").count(), LINES, "lines by textFile")
    if not every:
        return parquet
    session.group("newAPIHadoopFile")
    lines = spark.sparkContext.newAPIHadoopFile(
        f"{url}/lines", "org.apache.hadoop.mapreduce.lib.input.TextInputFormat", "org.apache.hadoop.io.LongWritable",
        "org.apache.hadoop.io.Text")
    same(lines.count(), LINES, "lines by newAPIHadoopFile")
    return parquet


WAYS = ["read.text", "read.csv", "read.parquet", "paths", "V2", "textFile", "newAPIHadoopFile"]
ONE_OF_EACH = ["read.text", "read.parquet", "textFile"]
LINE = 128
LINES = BLOCK // LINE * BLOCKS
# Files of more than half a block, so that each is a task of its own.
ROWS = 60_000 * BLOCKS
# More folders than the driver lists itself; a file of more than half a block in each.
PATHS = 40
PATH_ROWS = 60_000 * PATHS


def put_lines(cluster, folder, replicas):
    """A file of whole blocks, so that no split lies in two of them."""
    local = cluster.folder / "lines"
    with open(local, "wb") as out:
        for number in range(LINES):
            out.write(b"%012d,%s\n" % (number, b"x" * (LINE - 14)))
    cluster.run("fs", "mkdir", "-p", folder)
    cluster.run("fs", "put", "--replication", str(replicas), local, f"{folder}/lines.csv")


def pods_file(pods):
    entry = '[[pods]]\nid = "{}"\nips = ["{}"]\nnode = "{}"\napplication = "{}"\nrole = "{}"\n'
    text = entry.format("driver", DRIVER, "node-x", APPLICATION, "driver")
    return text + "".join(entry.format(f"pod-{ip}", ip, node, APPLICATION, "executor") for ip, node in pods.items())


def tell_pods(path, pods):
    """Whole at each moment, as whoever writes such a file should do it."""
    new = path.with_suffix(".new")
    new.write_text(pods_file(pods))
    new.rename(path)


def served(cluster):
    """Bytes that datanodes sent to readers on their own node, and elsewhere."""
    sums = collections.Counter()
    for address in cluster.metrics:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        for where, count in re.findall(r'datanode_served_bytes_total\{peer="(\w+)"\} (\d+)', text):
            sums[where] += int(count)
    return sums


def share(levels):
    tasks = sum(levels.values())
    return 100 * levels["NODE_LOCAL"] / tasks if tasks else 0.0


class World:
    def __init__(self, cluster, pods):
        self.cluster = cluster
        self.pods = pods
        self.found = {}
        self.bytes = {}

    def run(self, spark, folder, name):
        session = Session(spark, folder)
        try:
            table(session, self.cluster.url)
            self.bytes[name] = read_all(session, self.cluster, name == "on")
        finally:
            self.found[name] = session.end()
        for way in WAYS if name == "on" else ONE_OF_EACH:
            tasks = self.found[name][way]
            levels = collections.Counter(level for level, _ in tasks)
            hosts = collections.Counter(host for _, host in tasks)
            print(f"    {name}, {way}: {dict(levels)}, tasks by executor {sorted(hosts.values())}", flush=True)
        print(f"    {name}, read.parquet: bytes served {dict(self.bytes[name])}", flush=True)


def tasks_run_beside_their_data(world):
    """Every way of reading, with an executor beside each replica."""
    for way in WAYS:
        levels = collections.Counter(level for level, _ in world.found["on"][way])
        if share(levels) < LEAST_LOCAL:
            raise AssertionError(f"{way}: {dict(levels)}")


def tasks_are_spread_evenly(world):
    """No executor is left out, though Spark keeps three hosts of a block only."""
    hosts = collections.Counter(host for tasks in world.found["on"].values() for _, host in tasks)
    mean = sum(hosts.values()) / len(PODS)
    same(sorted(hosts), sorted(PODS), "executors that had tasks")
    same([host for host, count in hosts.items() if not mean / 2 < count < mean * 2], [], f"far from the mean of {mean}")


def bytes_come_from_the_own_node(world):
    """The datanodes' own counts agree with what the tasks' levels claim."""
    local, remote = (world.bytes["on"][where] for where in ("local", "remote"))
    if 100 * local < LEAST_LOCAL_BYTES * (local + remote):
        raise AssertionError(f"{local} bytes were local, {remote} remote")


def without_names_no_task_is_local(world):
    for way in ONE_OF_EACH:
        tasks = world.found["off"][way]
        same([task for task in tasks if task[0] == "NODE_LOCAL"], [], way)
        same(len(tasks) > 0, True, f"tasks of {way}")


def a_bad_file_of_pods_changes_nothing(world):
    """The pods that were known stay known, and the log names the file."""
    log = world.cluster.folder / "logs" / "namenode.log"
    hosts = located_hosts(world)
    world.pods.write_text("[[pods]]\nid = 7\n")
    wait_for(lambda: "cannot be used" in log.read_text(), 20, "the log tells of the bad file")
    has(log.read_text(), str(world.pods))
    same(located_hosts(world), hosts, "hosts after a bad file")
    tell_pods(world.pods, {"127.0.1.1": "node-a"})
    wait_for(lambda: located_hosts(world) == {"127.0.1.1", "localhost"}, 20, "a new file is believed", 0.3)


def located_hosts(world):
    """The hosts of all blocks as a stock client in the driver's place hears them."""
    import pyspark
    gateway = pyspark.SparkContext._gateway or pyspark.java_gateway.launch_gateway()
    pyspark.SparkContext._gateway = gateway
    jvm = gateway.jvm
    fs = jvm.org.apache.hadoop.fs.FileSystem.get(jvm.java.net.URI(world.cluster.url),
                                                 jvm.org.apache.hadoop.conf.Configuration())
    path = jvm.org.apache.hadoop.fs.Path(f"{world.cluster.url}/lines/lines.csv")
    return {host for block in fs.getFileBlockLocations(path, 0, BLOCK * BLOCKS) for host in block.getHosts()}


def settings(pods, names, metrics):
    yield from ("--set", f"pods_file={pods}", "--set", f"name_executors={names}", "--set", "pods_check_interval_ms=200")
    for number, (node, address) in enumerate(DATANODES.items(), 1):
        yield from ("--set", f"datanode-{number}.node={node}", "--set", f"datanode-{number}.host_name={node}.local",
                    "--set", f"datanode-{number}.advertised_ip={address}",
                    "--set", f"datanode-{number}.data_listen={address}:0",
                    "--set", f"datanode-{number}.http_listen={metrics[number - 1]}")


def cluster_with(binary, pods, names):
    metrics = [f"{address}:{free_port(address)}" for address in DATANODES.values()]
    cluster = Cluster(binary, "--block-size", BLOCK, *settings(pods, names, metrics), datanodes=len(DATANODES))
    cluster.metrics = metrics
    return cluster


def table(session, url):
    (session.spark.range(0, PATH_ROWS, 1, PATHS).selectExpr("id", "xxhash64(id) as hash", "spark_partition_id() as part")
     .write.partitionBy("part").parquet(f"{url}/paths"))
    session.spark.range(0, ROWS, 1, BLOCKS).selectExpr("id", "xxhash64(id) as hash").write.parquet(f"{url}/table")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    os.environ.update(SPARK_LOCAL_IP=DRIVER, PYSPARK_PYTHON=sys.executable)
    suite = Suite()
    folder = Path(tempfile.mkdtemp(prefix="steadfs-locality-"))
    pods = folder / "pods.toml"
    tell_pods(pods, PODS)
    spark = Spark(folder)
    try:
        spark.start(PODS)
        for name, names in (("off", "false"), ("on", "true")):
            with cluster_with(options.binary, pods, names) as cluster:
                world = World(cluster, pods) if name == "off" else world
                world.cluster = cluster
                put_lines(cluster, "/lines", 2)
                suite.check(f"scans with names {name}", world.run, spark, folder, name)
                if name == "on":
                    suite.check("a bad file of pods", a_bad_file_of_pods_changes_nothing, world)
        for check in (without_names_no_task_is_local, tasks_run_beside_their_data, tasks_are_spread_evenly,
                      bytes_come_from_the_own_node):
            suite.check(check.__name__, check, world)
    finally:
        spark.stop()
    if not suite.failed:
        shutil.rmtree(folder, ignore_errors=True)
    suite.end()


main()
