"""Whole jobs of Hadoop's and Spark's own programs on both systems: what users wait for."""

import os
import re
import subprocess
import time
from pathlib import Path

from measures import Benchmark, Case, at_least
from sides import HERE, Failure, command, write_conf

JOB_SECONDS = 900
JVM = ("-Xmx1g",)


def settings(context, fs):
    """Jobs run in this one JVM, with the stock local runner."""
    local = context.work / "mapred"
    return {"fs.defaultFS": fs, "hadoop.tmp.dir": local, "mapreduce.framework.name": "local",
            "mapreduce.cluster.local.dir": local / "local", "mapreduce.jobtracker.staging.root.dir": local / "staging",
            "dfs.replication": 1}


def java(context, side, *arguments, tests=False, extra=()):
    """A Java program with Hadoop's classes, to its end: its output, and the processor time of the servers."""
    at = context.sides[side]
    conf = write_conf(context.work / f"conf-jobs-{side}", settings(context, at.fs), "INFO")
    before = at.servers.cpu_seconds()
    done = subprocess.run(command(conf, *arguments, tests=tests, extra=extra, options=JVM), capture_output=True, text=True,
                          timeout=JOB_SECONDS, cwd=context.work)
    if done.returncode:
        raise Failure(f"{side}: {' '.join(map(str, arguments))}: {done.stderr[-1500:]}")
    return done.stdout + done.stderr, at.servers.cpu_seconds() - before


def timed(work):
    began = time.monotonic()
    told = work()
    return time.monotonic() - began, told


def tera_cases(context):
    jars = sorted(Path(os.environ.get("EXAMPLES", "/nowhere")).glob("*.jar"))
    if not jars:
        raise Failure("EXAMPLES names no folder with Hadoop's examples: source scripts/setup examples")
    rows = 1_000_000 if context.quick else 5_000_000
    places = {}

    def job(side, name, *arguments):
        seconds, (_, servers) = timed(lambda: java(context, side, f"org.apache.hadoop.examples.terasort.{name}", *arguments,
                                                   extra=jars))
        return {"value": seconds, "server_cpu_s": servers}

    def generate(side):
        places[side] = f"/bench-tera-{time.monotonic_ns()}"
        return job(side, "TeraGen", "-Dmapreduce.job.maps=2", rows, f"{places[side]}/in")

    def sort(side):
        out = f"{places[side]}/out-{time.monotonic_ns()}"
        places[f"{side} out"] = out
        return job(side, "TeraSort", f"{places[side]}/in", out)

    def validate(side):
        return job(side, "TeraValidate", places[f"{side} out"], f"{places[side]}/report-{time.monotonic_ns()}")

    return [Case(f"{name} of {rows / 1e7:.1f} GB", "s", work, larger_is_better=False, aims=[at_least(20, 1, larger_is_better=False)],
                 rounds=rounds)
            for name, work, rounds in (("TeraGen", generate, 3), ("TeraSort", sort, 3), ("TeraValidate", validate, 3))]


DFSIO = re.compile(r"Throughput mb/sec:\s*([\d.,]+)")


def dfsio_cases(context):
    files, size = 4, ("64MB" if context.quick else "256MB")

    def run(side, mode):
        text, servers = java(context, side, "org.apache.hadoop.fs.TestDFSIO", mode, "-nrFiles", files, "-size", size, "-resFile",
                             context.work / "dfsio.log", tests=True)
        found = DFSIO.search(text)
        if not found:
            raise Failure(f"TestDFSIO tells no throughput: {text[-1000:]}")
        return {"value": float(found[1].replace(",", "")), "server_cpu_s": servers}

    return [Case(f"TestDFSIO {mode} of {files} files of {size}, one after the other", "MB/s", lambda side, mode=mode: run(side, mode),
                 aims=[at_least(20, 1)], rounds=3) for mode in ("-write", "-read")]


THROUGHPUT = re.compile(r"Ops per sec:\s*([\d.]+)")


def nnthroughput_cases(context):
    """Hadoop's own client of a namenode: all its threads share one connection, and its main thread spins."""
    count, threads = (3_000, 16) if context.quick else (20_000, 16)

    def run(side, operation):
        text, servers = java(context, side, "org.apache.hadoop.hdfs.server.namenode.NNThroughputBenchmark", "-fs",
                             context.sides[side].fs, "-op", operation, "-threads", threads,
                             "-dirs" if operation == "mkdirs" else "-files", count, tests=True)
        found = THROUGHPUT.search(text)
        if not found:
            raise Failure(f"NNThroughputBenchmark tells no rate: {text[-1000:]}")
        return {"value": float(found[1]), "server_cpu_s": servers}

    return [Case(f"{operation}, {threads} threads", "calls/s", lambda side, operation=operation: run(side, operation),
                 aims=[at_least(20, 1)], rounds=3)
            for operation in ("create", "mkdirs", "open", "fileStatus", "rename", "delete")]


SPARK_LINE = re.compile(r"^RESULT (\S+) ([\d.]+)$", re.M)


def spark_cases(context):
    """One session a round and side; its steps are cases that share it."""
    python = os.environ.get("SPARK35")
    if not python:
        raise Failure("SPARK35 names no Python with PySpark: source scripts/setup spark35")
    rows = 2_000_000 if context.quick else 8_000_000
    steps = ("write", "scan", "join", "wide")
    told = {}

    def run(side, step):
        # All steps ran with the first of them in this round.
        if step == steps[0]:
            at = context.sides[side]
            before = at.servers.cpu_seconds()
            folder = f"{at.fs}/bench-spark-{time.monotonic_ns()}"
            done = subprocess.run([python, HERE / "spark_job.py", folder, str(rows)], capture_output=True, text=True,
                                  timeout=JOB_SECONDS, cwd=context.work)
            if done.returncode:
                raise Failure(f"{side}: Spark: {done.stderr[-1500:]}")
            told.setdefault(side, []).append({name: float(seconds) for name, seconds in SPARK_LINE.findall(done.stdout)})
            told[side][-1]["cpu"] = at.servers.cpu_seconds() - before
        return told[side]

    def first(side):
        found = run(side, "write")[-1]
        return {"value": sum(found[step] for step in steps), "server_cpu_s": found["cpu"]}

    def later(step):
        taken = {}

        def of(side):
            taken[side] = taken.get(side, 0) + 1
            return {"value": told[side][taken[side] - 1][step]}
        return of

    cases = [Case("all steps", "s", first, larger_is_better=False, aims=[at_least(20, 1, larger_is_better=False)], rounds=3)]
    names = {"write": "rows are written as Parquet", "scan": "a scan with sums", "join": "a join with a smaller table",
             "wide": "a wide write, partitioned"}
    return cases + [Case(names[step], "s", later(step), larger_is_better=False, rounds=3) for step in steps]


BENCHMARKS = [
    Benchmark("dfsio", "Hadoop's TestDFSIO, stock client, local job runner", (), dfsio_cases, False),
    Benchmark("tera", "TeraGen, TeraSort and TeraValidate, stock client, local job runner, one replica", (), tera_cases, False),
    Benchmark("nnthroughput", "client operations of Hadoop's NNThroughputBenchmark", (), nnthroughput_cases, False),
    Benchmark("spark", "a Spark job: rows written, scanned, joined, and written wide", (), spark_cases, False),
]
