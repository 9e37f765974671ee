"""What has grown: many files, one large folder, one file of many blocks, a large delete, many datanodes, a full datanode."""

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

from cluster import wait_for
from machine import Usage
from measures import Aim, Benchmark, Case, used_bytes
from peer import free_port
from scale import SECONDS, Synthetic
from sides import Failure

CONNECTIONS = 16
FILES_OF_A_FOLDER = 1_000
# Replicas that nobody reports must not keep a namenode in safe mode: calls that change something are measured, too.
NO_SAFE_MODE = "[safe_mode]\nthreshold = 0.0\nextension_ms = 0\n"
BLOCK_BYTES = 128 << 20
# The tree beside the one that is deleted.
CALM, CALM_FILES = "calm", 100_000
OPERATIONS = ("stat", "open", "list", "create", "delete")
# What each connection rests after a call where the time of others' calls is asked for: some 3,000 calls a second in all.
REST_US = 5_000


class Grown(Synthetic):
    """A namenode with what has grown; it goes with the benchmark's last case, or with the context."""

    def __init__(self, context, name, more=NO_SAFE_MODE):
        super().__init__(context, 0, more, name)
        self.context, self.seconds = context, 0.0
        context.kept[name] = self

    def grow(self, files, *options):
        began = time.monotonic()
        self.made = self.make(files, *options)
        self.files, self.seconds = files, time.monotonic() - began
        return self

    def spread(self, op, files=None, seconds=None, **named):
        """Calls all over a tree; processor time of the namenode a call."""
        words = [word for key, value in named.items() for word in (f"--{key.replace('_', '-')}", value)]
        before = self.usage.cpu_seconds()
        told = self.context.drive("spread", "--fs", f"hdfs://{self.address}", "--op", op, "--files", files or self.files,
                                  "--seconds", seconds or self.context.seconds + 1, *words)
        spent = self.usage.cpu_seconds() - before
        return {"value": told["calls_per_s"], "p50_us": told["p50_us"], "p99_us": told["p99_us"],
                "server_cpu_us": spent / max(told["calls"], 1) * 1e6}

    def blocks(self):
        """Blocks in the namespace, by its metrics: those of deleted files count until they are removed."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=60) as answer:
            return int(re.search(r"namenode_blocks (\d+)", answer.read().decode())[1])

    def end(self):
        self.context.kept.pop(self.folder.name, None)
        self.close()


def one(label, unit, measure, larger_is_better=False, sides=("ours",), aims=()):
    """A case that is measured once: making what it needs takes longer than measuring."""
    return Case(label, unit, measure, sides=sides, larger_is_better=larger_is_better, rounds=1, aims=list(aims))


def calls_cases(context, *counts):
    return [case for files in counts for case in calls_with(context, files // 100 if context.quick else files)]


def calls_with(context, files):
    """Start, memory, disk and calls with so many files."""
    at = {}

    def made(_side):
        at["namenode"] = Grown(context, f"files-{files}").grow(files, "--per-folder", FILES_OF_A_FOLDER)
        return {"value": at["namenode"].seconds}

    def start(_side):
        return {"value": at["namenode"].start(context)}

    def resident(_side):
        return {"value": at["namenode"].usage.resident_bytes() / 1e6}

    def disk(_side):
        namenode = at["namenode"]
        namenode.stop()
        found = {"value": used_bytes([namenode.folder / "a" / "store"]) / files}
        namenode.end()
        return found

    def calls(op):
        return one(f"{files:,} files: {op}", "calls/s", lambda _side: at["namenode"].spread(op), larger_is_better=True)

    return [one(f"{files:,} files: made", "s", made), one(f"{files:,} files: start to first answer", "s", start),
            one(f"{files:,} files: resident then", "MB", resident), *map(calls, OPERATIONS),
            one(f"{files:,} files: resident after the calls", "MB", resident),
            one(f"{files:,} files: one copy of the store, a file", "bytes", disk)]


def folder_cases(context):
    """One folder with very many entries."""
    entries = 10_000 if context.quick else 1_000_000
    at = {}

    def measure(op):
        def measured(_side):
            if not at:
                at["namenode"] = Grown(context, "folder").grow(entries, "--per-folder", entries)
                at["namenode"].start(context)
            # A folder holds 1,048,576 entries at most: not so many may be made meanwhile.
            return at["namenode"].spread(op, seconds=1, per_folder=entries, connections=1 if op == "walk" else CONNECTIONS)
        return measured

    def walk(_side):
        found = measure("walk")(None)
        at["namenode"].end()
        return {"value": found["p50_us"] / 1e6}

    return [*(one(f"{entries:,} entries: {op}", "calls/s", measure(op), larger_is_better=True) for op in OPERATIONS),
            one(f"{entries:,} entries: all pages, one caller", "s", walk)]


def blocks_cases(context):
    """One file with very many blocks."""
    blocks = 100_000
    at = {}

    def measure(op):
        def measured(_side):
            if not at:
                more = f"{NO_SAFE_MODE}[namespace]\nmax_blocks_per_file = {blocks}\n"
                at["namenode"] = Grown(context, "blocks", more).grow(1, "--blocks", blocks, "--block-bytes", BLOCK_BYTES)
                at["namenode"].start(context)
            return at["namenode"].spread(op, per_folder=1, file_bytes=blocks * BLOCK_BYTES)
        return measured

    def delete(_side):
        namenode = at["namenode"]
        took = deleted(context, namenode, "synthetic")
        wait_for(lambda: not namenode.blocks(), SECONDS, "the blocks of a deleted file are gone")
        namenode.end()
        return {"value": took}

    names = {"stat": "stat", "open": "open (the first ten blocks)", "open-at": "ten blocks anywhere"}
    return [*(one(f"a file of {blocks:,} blocks: {name}", "calls/s", measure(op), larger_is_better=True)
              for op, name in names.items()),
            one(f"a file of {blocks:,} blocks: deleted", "s", delete)]


def deleted(context, namenode, name):
    """Seconds until a delete was answered."""
    began = time.monotonic()
    done = subprocess.run([context.binary, "fs", "--fs", f"hdfs://{namenode.address}", "--user", "root", "rm", "-r",
                           "--skip-trash", f"/{name}"], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise Failure(f"rm -r /{name}: {done.stderr[-1000:]}")
    return time.monotonic() - began


def delete_cases(context):
    """Others' calls while what a large delete left is removed."""
    files = 100_000 if context.quick else 10_000_000
    at = {}

    def prepare():
        if at:
            return at
        namenode = Grown(context, "delete").grow(files, "--per-folder", FILES_OF_A_FOLDER)
        namenode.make(CALM_FILES, "--name", CALM, "--beside-others")
        namenode.start(context)
        # The gauge is read every few seconds only.
        wait_for(lambda: namenode.blocks() >= files, 60, "the namenode tells how many blocks there are", 0.5)
        rest = namenode.blocks() - files

        def calls(op):
            return namenode.spread(op, CALM_FILES, 2, name=CALM, rest_us=REST_US)

        alone = {op: [calls(op) for _ in range(5)] for op in ("stat", "create")}
        at.update(alone={op: max(found["p99_us"] for found in rounds) for op, rounds in alone.items()}, meanwhile={})
        at["answered"], began = deleted(context, namenode, "synthetic"), time.monotonic()
        meanwhile = {"stat": [], "create": []}
        while namenode.blocks() > rest:
            if time.monotonic() > began + SECONDS:
                raise Failure(f"what was deleted is not gone after {SECONDS} s")
            for op, rounds in meanwhile.items():
                rounds.append(calls(op))
        at["gone"] = time.monotonic() - began
        at["meanwhile"] = {op: max((found["p99_us"] for found in rounds), default=0.0) for op, rounds in meanwhile.items()}
        namenode.end()
        return at

    def p99(op):
        def measured(side):
            found = prepare()["meanwhile" if side == "ours" else "alone"][op]
            return {"value": found}
        aim = Aim(21, "≤ 3 × before", lambda m: m["ours"]["value"] <= 3 * m["alone"]["value"])
        return one(f"others' {op}s while {files:,} files go, worst p99 of 2 s", "µs", measured, sides=("ours", "alone"),
                   aims=[aim])

    def told(label, key):
        return one(f"the delete of {files:,} files, {label}", "s", lambda _side: {"value": prepare()[key]})

    return [p99("stat"), p99("create"), told("answered", "answered"), told("all removed", "gone")]


def nodes_cases(context):
    """Calls while very many datanodes report and send heartbeats."""
    nodes, files, replication = (100, 34_000, 3) if context.quick else (1_000, 3_334_000, 3)
    at = {}

    def prepare():
        if at:
            return at
        # With safe mode, as after any start: a namenode that goes without it judges blocks before it has heard of them.
        namenode = Grown(context, "nodes", "").grow(files, "--per-folder", FILES_OF_A_FOLDER)

        def swarm(seconds):
            line = [context.bench, "swarm", "--address", namenode.address, "--nodes", nodes, "--first-block",
                    namenode.made["first_block"], "--end-block", namenode.made["end_block"], "--stamp", namenode.made["stamp"],
                    "--replication", replication, "--seconds", seconds, "--pid", namenode.process.pid]
            return subprocess.Popen([str(word) for word in line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def ended(process):
            out, error = process.communicate()
            if process.returncode:
                raise Failure(f"swarm: {error[-1000:]}")
            return json.loads(out)

        # What it costs, while nobody else calls.
        namenode.start(context)
        before = namenode.usage.resident_bytes()
        at.update(ended(swarm(10)))
        at["memory"] = namenode.usage.resident_bytes() - before
        # What others feel of it.
        namenode.stop()
        namenode.start(context)

        def stats():
            return namenode.spread("stat", seconds=2, rest_us=REST_US)["p99_us"]

        alone = [stats() for _ in range(5)]
        began, rounds = time.monotonic(), []
        with swarm(20) as process:
            while process.poll() is None:
                rounds.append((time.monotonic() - began, stats()))
            told = ended(process)
        reported = told["registered_s"] + told["reported_s"]
        at.update(alone=max(alone),
                  reporting=max((p99 for when, p99 in rounds if when < reported), default=0.0),
                  beating=max((p99 for when, p99 in rounds if reported < when < reported + 18), default=0.0))
        namenode.end()
        return at

    def p99(when, what, factor):
        def measured(side):
            return {"value": prepare()[when if side == "ours" else "alone"]}
        aim = Aim(22, f"≤ {factor} × without", lambda m: m["ours"]["value"] <= factor * m["alone"]["value"])
        return one(f"stats {what}, worst p99 of 2 s", "µs", measured, sides=("ours", "alone"), aims=[aim])

    def told(label, unit, figure):
        return one(f"{nodes:,} datanodes: {label}", unit, lambda _side: {"value": figure(prepare())})

    return [p99("beating", f"while {nodes:,} datanodes send heartbeats", 2),
            p99("reporting", f"while {nodes:,} datanodes report {files * replication:,} replicas", 2),
            told("all reported", "s", lambda found: found["reported_s"]),
            told("the namenode, a million replicas", "core-s", lambda found: found["namenode_cpu_s"] / found["replicas"] * 1e6),
            told("a heartbeat, p99", "µs", lambda found: found["heartbeats"]["p99_us"]),
            told("a replica's location", "bytes of the process", lambda found: found["memory"] / found["replicas"])]


class FullDatanode:
    """A datanode with so many replicas of one byte, of which it wrote one itself, and its namenode."""

    def __init__(self, context, replicas):
        self.context, self.replicas, self.process = context, replicas, None
        context.kept["full-datanode"] = self
        more = f"{NO_SAFE_MODE}[namespace]\ndefault_replication = 1\n"
        self.namenode = Grown(context, "datanode", more).grow(replicas, "--block-bytes", 1, "--replication", 1)
        self.folder = self.namenode.folder
        self.volume, self.http = self.folder / "volume", f"127.0.0.1:{free_port()}"
        (self.folder / "datanode.toml").write_text(
            f'namenode = "{self.namenode.address}"\ndata_listen = "127.0.0.1:{free_port()}"\nhttp_listen = "{self.http}"\n'
            f'ipc_listen = "127.0.0.1:{free_port()}"\nlocal_folder = "{self.folder / "local"}"\n'
            f'[[volumes]]\npath = "{self.volume}"\n')
        self.namenode.start(context)
        self.start()
        (self.folder / "byte").write_bytes(b"x")
        self.run("fs", "put", self.folder / "byte", "/byte")
        self.stop()
        self.fill()
        # From now on it counts when all of them were reported.
        self.namenode.stop()
        config = self.namenode.config
        config.write_text(config.read_text().replace("threshold = 0.0", "threshold = 1.0"))

    def run(self, *words):
        done = subprocess.run([self.context.binary, *map(str, words)], capture_output=True, text=True, timeout=SECONDS,
                              env={**os.environ, "STEADFS_URL": f"hdfs://{self.namenode.address}", "HADOOP_USER_NAME": "root"})
        if done.returncode:
            raise Failure(f"steadfs {' '.join(map(str, words))}: {done.stderr[-1000:]}")
        return done.stdout

    def fill(self):
        """Puts a replica of every made-up block where the datanode would have put it: as the one that it wrote."""
        own, = self.volume.glob("finalized/*/*/blk_*.meta")
        checksums, made = own.read_bytes(), self.namenode.made
        for block in range(made["first_block"], made["end_block"]):
            folder = self.volume / "finalized" / f"subdir{block >> 16 & 31}" / f"subdir{block >> 8 & 31}"
            if block & 255 == 0 or block == made["first_block"]:
                folder.mkdir(parents=True, exist_ok=True)
            for name, content in ((f"blk_{block}", b"x"), (f"blk_{block}_{made['stamp']}.meta", checksums)):
                file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(file, content)
                os.close(file)
        os.sync()

    def start(self):
        """Seconds until the namenode knows it."""
        began = time.monotonic()
        log = open(self.folder / "datanode.log", "ab")
        self.process = subprocess.Popen([self.context.binary, "datanode", "--config", self.folder / "datanode.toml"],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.is_ready, SECONDS, "the datanode is registered", 0.02)
        return time.monotonic() - began

    def is_ready(self):
        if self.process.poll() is not None:
            raise Failure(f"the datanode ended: {(self.folder / 'datanode.log').read_text()[-1000:]}")
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(120)
            self.process = None

    close = stop

    def measure(self, cold):
        """A start of both: until it is registered, until all is reported; what the datanode used for it."""
        self.namenode.start(self.context)
        if cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        began = time.monotonic()
        registered = self.start()
        wait_for(lambda: "is off" in self.run("admin", "safemode", "get"), SECONDS, "all is reported", 0.05)
        reported, usage = time.monotonic() - began, Usage([self.process.pid])
        found = {"registered": registered, "reported": reported, "cpu": usage.cpu_seconds(), "memory": usage.resident_bytes() / 1e6}
        self.stop()
        self.namenode.stop()
        return found


def datanode_cases(context):
    """The start of a full datanode."""
    replicas = 10_000 if context.quick else 1_000_000
    at = {}

    def prepare():
        if not at:
            full = FullDatanode(context, replicas)
            at.update(cold=full.measure(True), warm=full.measure(False))
            full.namenode.end()
        return at

    def told(when, label, unit, key):
        return one(f"{replicas:,} replicas, {when}: {label}", unit, lambda _side: {"value": prepare()[when][key]})

    return [told(when, label, unit, key) for when in ("cold", "warm")
            for label, unit, key in (("start to registered", "s", "registered"), ("start to all reported", "s", "reported"),
                                     ("processor time of it", "core-s", "cpu"), ("resident then", "MB", "memory"))]


BENCHMARKS = [
    Benchmark("grown-calls", "calls, memory and disk with 1 and 10 million files", (),
              lambda c: calls_cases(c, 1_000_000, 10_000_000), False),
    Benchmark("grown-folder", "one folder with 1,000,000 entries", (), folder_cases, False),
    Benchmark("grown-blocks", "one file with 100,000 blocks", (), blocks_cases, False),
    Benchmark("grown-delete", "others' calls while 10,000,000 deleted files go", (21,), delete_cases, False),
    Benchmark("grown-nodes", "calls while 1,000 datanodes report 10,000,000 replicas", (22,), nodes_cases, False),
    Benchmark("grown-datanode", "the start of a datanode with 1,000,000 replicas", (), datanode_cases, False),
    Benchmark("grown-most", "calls, memory and disk with 100 million files", (),
              lambda c: calls_cases(c, 100_000_000), False, True),
]
