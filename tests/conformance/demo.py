"""The demonstration: stock PySpark on SteadFS, and a datanode that is lost in the middle. `scripts/demo` calls it.

demo.py --binary STEADFS --spark PYTHON --data PYTHON [--keep]
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cluster import Cluster, Failure, wait_for

HERE = Path(__file__).resolve().parent
DATANODES = 4
BLOCK = "1MiB"
DEAD_AFTER_MS = 4000
JOB_SECONDS = 600
REPAIR_SECONDS = 120
VICTIM = 1
began = time.monotonic()


def say(text):
    print(f"\033[1m[{time.monotonic() - began:6.1f} s]\033[0m {text}", flush=True)


def load(cluster, python):
    csv = cluster.folder / "flights.csv"
    subprocess.run([python, HERE / "flights_data.py", "csv", csv], check=True)
    cluster.run("fs", "put", csv, "/flights.csv")
    blocks = cluster.report()["blocks"]
    say(f"loaded flights.csv: {csv.stat().st_size / 1e6:.1f} MB in {blocks} blocks of {BLOCK}, three replicas each")
    if blocks < 10:
        raise Failure(f"only {blocks} blocks: the block size was not followed")
    return csv


class Job:
    """The Spark job as a process; its phases are noted as they come."""

    def __init__(self, python, url, result, log):
        environment = dict(os.environ, PYSPARK_PYTHON=str(python), SPARK_LOCAL_IP="127.0.0.1")
        self.log = log
        self.process = subprocess.Popen([python, HERE / "flights_job.py", url, result], env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=open(log, "w"))
        self.phases = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("PHASE "):
                self.phases.append(line.split()[1])
                say(f"spark: {self.phases[-1]}")

    def reached(self, phase):
        if self.process.poll() not in (None, 0):
            raise Failure(f"the Spark job failed:\n{Path(self.log).read_text()[-3000:]}")
        return phase in self.phases

    def finish(self):
        wait_for(lambda: self.process.poll() is not None, JOB_SECONDS, "the Spark job ends")
        self.reader.join(10)
        if not self.reached("done"):
            raise Failure("the Spark job ended before it was done")


def lose_a_datanode(cluster, job):
    """Kills one when the job has begun to write its Parquet files."""
    wait_for(lambda: job.reached("write"), JOB_SECONDS, "the job writes")
    wait_for(lambda: "part-" in cluster.run("fs", "ls", "-R", "/flights.parquet", check=False).stdout
             or job.reached("back"), JOB_SECONDS, "the first Parquet file")
    if job.reached("back"):
        raise Failure("the job wrote too fast to lose a datanode in the middle")
    uuid = cluster.endpoints["datanodes"][VICTIM]["uuid"]
    held = sum(storage["blocks"] for node in cluster.report()["datanodes"] if node["uuid"] == uuid
               for storage in node["storages"])
    victim = cluster.kill_datanode(VICTIM)
    say(f"killed datanode {VICTIM + 1} (pid {victim['pid']}, {held} replicas) while the job writes")


class Repair(threading.Thread):
    """Watches from the loss on: the datanode is noticed as lost, and every block gets its replicas again."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.failure = None
        self.start()

    def run(self):
        try:
            wait_for(lambda: self.cluster.report()["dead_datanodes"] == 1, REPAIR_SECONDS, "the namenode notices the loss")
            say("the namenode counts the datanode as lost, and has its replicas made again")
            wait_for(self.repaired, REPAIR_SECONDS, "all replicas are made again")
        except Exception as error:
            self.failure = error

    last = None

    def repaired(self):
        under = self.cluster.report()["under_replicated"]
        if under != self.last:
            say(f"blocks with a replica too few: {under}")
            self.last = under
        return under == 0

    def finish(self):
        self.join()
        if self.failure:
            raise self.failure
        # What the job wrote since then counts too.
        wait_for(self.repaired, REPAIR_SECONDS, "all replicas are made again")
        fsck = self.cluster.run("admin", "fsck", "/", check=False)
        if fsck.returncode != 0:
            raise Failure(f"steadfs admin fsck is not content:\n{fsck.stdout}{fsck.stderr}")
        say(f"fsck: {fsck.stdout.splitlines()[-1]}")


def compare(found, expected):
    """Spark's numbers from SteadFS against pandas' numbers from the original file."""
    for key in ("rows", "months"):
        if found[key] != expected[key]:
            raise Failure(f"{key}: Spark says {found[key]}, pandas {expected[key]}")
    for ours, theirs in zip(found["carriers"], expected["carriers"], strict=True):
        same = all(math.isclose(ours[key], theirs[key], rel_tol=1e-9) for key in theirs if key != "carrier")
        if ours["carrier"] != theirs["carrier"] or not same:
            raise Failure(f"Spark says {ours}, pandas {theirs}")


def show(rows):
    print(f"\n  {'carrier':<9}{'flights':>9}{'late off (min)':>16}{'late in (min)':>15}{'miles':>13}")
    for row in sorted(rows, key=lambda row: -row["arrival_delay"]):
        print(f"  {row['carrier']:<9}{row['flights']:>9,}{row['departure_delay']:>16.1f}{row['arrival_delay']:>15.1f}"
              f"{row['miles']:>13,}")
    print(flush=True)


def run(cluster, options):
    say(f"serving {cluster.url} with {DATANODES} datanodes; status page {cluster.http}/")
    csv = load(cluster, options.data)
    result = cluster.folder / "result.json"
    say("running a stock PySpark job, nothing added to its class path")
    job = Job(options.spark, cluster.url, result, cluster.folder / "spark.log")
    try:
        lose_a_datanode(cluster, job)
        repair = Repair(cluster)
        job.finish()
    finally:
        if job.process.poll() is None:
            job.process.kill()
    found = json.loads(result.read_text())
    say(f"the job succeeded on Spark {found['spark']} although a datanode was lost")
    expected = subprocess.run([options.data, HERE / "flights_data.py", "expect", csv], check=True, text=True,
                              capture_output=True)
    compare(found, json.loads(expected.stdout))
    say(f"{found['rows']:,} rows and the delays of {len(found['carriers'])} carriers agree with pandas on the original file")
    repair.finish()
    show(found["carriers"])
    print(cluster.run("fs", "ls", "-l", "/").stdout, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--spark", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    # A demonstration that is told to stop stops its cluster too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = ["--block-size", BLOCK, "--set", f"dead_after_ms={DEAD_AFTER_MS}"]
    try:
        with Cluster(options.binary, *settings, datanodes=DATANODES, keep=options.keep) as cluster:
            run(cluster, options)
            say(f"done; the status page {'is' if options.keep else 'was'} {cluster.http}/")
            if options.keep:
                print(f"  look around:  export STEADFS_URL={cluster.url}; {options.binary} fs ls -l /\n"
                      f"  stop it:      kill {cluster.process.pid}; rm -r {cluster.folder}", flush=True)
    except Failure as failure:
        sys.exit(f"demo failed: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


main()
