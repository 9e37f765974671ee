"""Hadoop's own tests against this server, judged by what Apache HDFS makes of the same ones.

hadoop_tests.py GROUP --binary STEADFS                          against clusters of its own
hadoop_tests.py GROUP --endpoint RPC,HTTP [--endpoint …]        against running servers, which are emptied
                                                                (with --record, a real HDFS: writes what is expected)
GROUP: contract      the contract and operation suites over hdfs://
       contract-web  the same over webhdfs://
       classes       test classes of HDFS that start a cluster; they are given this one
       cases         the command line cases (CASES names the folder of Hadoop's testHDFSConf.xml and its like)

`expected/GROUP.tsv` holds every test with its outcome on Apache HDFS 3.4.3. What passes there must pass here, but for what
`later.txt` names, and every test of the list must have been run; a test that fails or is skipped there, or is up to
chance (`unsteady.txt`), may do what it likes.
"""

import argparse
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import peer
from cluster import Cluster, Failure

HERE = Path(__file__).resolve().parent / "hadoop-tests"
# The users that Hadoop's tests invent, and the groups they say these are in.
GROUPS = {
    "super": "supergroup", "bob": "groupY groupZ", "rootx": "user", "steadfs-test": "users", "user": "mygroup",
    "user2": "mygroup2", "theDoctor": "tardis", "rose": "powellestates", "clark": "execs", "u1": "g1",
}
SUITE_SECONDS = 600
# Of the reason why a test does not pass on Apache HDFS.
MOST_CHARACTERS = 140


def names(group):
    """The suites of a group, in the order in which they are begun: a list beside the expectations."""
    lines = (HERE / f"{group}.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


class Runner:
    def __init__(self, group, folder):
        self.group = group
        self.folder = folder
        self.classes = peer.compile_java(sorted(HERE.glob("java/**/*.java")), folder / "classes", tests=True)
        self.conf = peer.write_conf(folder / "conf", {"hadoop.tmp.dir": folder / "tmp"}, os.environ.get("LEVEL", "ERROR"))
        self.results = {}
        self.lock = threading.Lock()

    def run(self, suite, rpc, http):
        """Runs one suite in a JVM of its own; what it tells goes into `results`."""
        properties = {
            "steadfs.rpc": rpc, "steadfs.http": http, "steadfs.scheme": "webhdfs" if self.group.endswith("-web") else "hdfs",
            "test.build.data": self.folder / "data", "test.cache.data": os.environ.get("CASES", ""),
            "hadoop.tmp.dir": self.folder / "tmp",
        }
        options = [*peer.SHORT, "-Xmx1g", *(f"-D{key}={value}" for key, value in properties.items())]
        command = peer.command(self.conf, "steadfs.Run", suite, tests=True, extra=[self.classes, HERE / "resources"],
                               options=options)
        log = self.folder / f"{suite}.log"
        began = time.monotonic()
        with open(log, "w") as errors:
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, timeout=SUITE_SECONDS, text=True,
                                      stdin=subprocess.DEVNULL, cwd=self.folder)
                told, fate = done.stdout, done.returncode
            except subprocess.TimeoutExpired as expired:
                told, fate = (expired.stdout or b"").decode(), f"ended after {SUITE_SECONDS} s"
        outcomes = dict(line.split("\t", 2)[1:] for line in told.splitlines() if line.count("\t") == 2)
        if fate:
            outcomes["(the suite itself)"] = f"failed: {fate}"
        with self.lock:
            self.results[suite] = outcomes
            self.report(suite, outcomes, time.monotonic() - began)

    def report(self, suite, outcomes, seconds):
        counted = {kind: sum(outcome.startswith(kind) for outcome in outcomes.values())
                   for kind in ("passed", "failed", "skipped")}
        numbers = "  ".join(f"{kind} {number:3}" for kind, number in counted.items())
        print(f"  {suite.removeprefix('org.apache.hadoop.'):50} {numbers}  {seconds:6.1f} s", flush=True)

    def run_all(self, suites, endpoints):
        """Each endpoint takes the next suite when it is free: suites empty the server, so that two cannot share one."""
        waiting = queue.SimpleQueue()
        for suite in suites:
            waiting.put(suite)

        def work(endpoint):
            while True:
                try:
                    self.run(waiting.get_nowait(), *endpoint)
                except queue.Empty:
                    return

        threads = [threading.Thread(target=work, args=(endpoint,)) for endpoint in endpoints]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def read_expected(group):
    path = HERE / "expected" / f"{group}.tsv"
    rows = (line.split("\t", 2) for line in path.read_text().splitlines() if not line.startswith("#"))
    expected = {}
    for suite, test, outcome in rows:
        expected.setdefault(suite, {})[test] = outcome
    return expected


def in_short(outcome):
    """An outcome without what differs from run to run."""
    return re.sub(r"127\.0\.0\.1:\d+|@[0-9a-f]{6,}|/tmp/\S+", "…", outcome)[:MOST_CHARACTERS].strip()


def write_expected(group, results):
    """What passes, fails and is skipped, with the reason in short."""
    known = {}
    if (HERE / "expected" / f"{group}.tsv").exists():
        known = read_expected(group)
    known.update(results)
    rows = [f"{suite}\t{test}\t{in_short(outcome)}\n" for suite in sorted(known) for test, outcome in sorted(known[suite].items())]
    (HERE / "expected").mkdir(exist_ok=True)
    (HERE / "expected" / f"{group}.tsv").write_text("".join(rows))


def named(file, group):
    """Suites and tests of a group that a file lists. A case of the command line is named by its number."""
    lines = (HERE / file).read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    return {(suite, test) for of, suite, test, *_ in words if of == group}


def judge(group, results, expected):
    """Prints what is worse here, and the closing line; gives whether all is well."""
    passed = failed = awaited = 0
    by_chance, later = named("unsteady.txt", group), named("later.txt", group)
    for suite, outcomes in sorted(results.items()):
        for test, outcome in sorted(expected.get(suite, {}).items()):
            name = (suite, test.split()[0])
            if not outcome.startswith("passed") or name in by_chance:
                continue
            here = outcomes.get(test, "failed: was not run")
            if here.startswith("passed"):
                passed += 1
            elif name in later:
                awaited += 1
            else:
                failed += 1
                print(f"    {suite} {test}: {here}")
        if suite not in expected:
            failed += 1
            print(f"    {suite}: nothing is known of it; record it against Apache HDFS")
    if awaited:
        print(f"({awaited} more wait for later work: {HERE.name}/later.txt)")
    print(f"{passed} passed, {failed} failed", flush=True)
    return failed == 0


def endpoints_of(clusters):
    return [(cluster.url.removeprefix("hdfs://").strip("/"), cluster.http.removeprefix("http://").strip("/"))
            for cluster in clusters]


def start_clusters(binary, number):
    groups = "{" + ", ".join(f'{user} = {list_of(names)}' for user, names in GROUPS.items()) + "}"
    options = ["--min-block-size", "1", "--replication", "3", "--set", "heartbeat_interval_ms=1000",
               "--set", f"users.groups={groups}"]
    return [Cluster(binary, *options, datanodes=3) for _ in range(number)]


def list_of(text):
    return "[" + ", ".join(f'"{word}"' for word in text.split()) + "]"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("group")
    parser.add_argument("--binary")
    parser.add_argument("--endpoint", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    suites = [suite for suite in names(options.group)
              if not options.only or any(part in suite for part in options.only)]
    folder = Path(tempfile.mkdtemp(prefix="hadoop-tests-"))
    runner = Runner(options.group, folder)
    print(f"logs: {folder}", flush=True)
    if options.endpoint:
        runner.run_all(suites, [tuple(endpoint.split(",")) for endpoint in options.endpoint])
    else:
        clusters = start_clusters(options.binary, options.jobs)
        for cluster in clusters:
            cluster.__enter__()
        try:
            runner.run_all(suites, endpoints_of(clusters))
        finally:
            for cluster in clusters:
                cluster.__exit__(None, None, None)
    if options.record:
        write_expected(options.group, runner.results)
        return
    sys.exit(0 if judge(options.group, runner.results, read_expected(options.group)) else 1)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(str(failure))
