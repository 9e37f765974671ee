"""What is measured: every benchmark by its name."""

import json
import os
import re
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from machine import Usage
from sides import HERE, Failure, JavaClient

FILES = 100
FOLDER = "/bench-calls"
STREAM = "/bench-stream"
COMMAND_SECONDS = 900
DESCRIPTOR_SECONDS = 120


@dataclass
class Aim:
    """What a case is to reach. `what` says it in words; `reached` looks at the medians of all sides."""
    number: int
    what: str
    reached: Callable


@dataclass
class Case:
    """One figure of each of its sides. `measure` is called with the side's name and gives at least `value`."""
    label: str
    unit: str
    measure: Callable
    sides: tuple = ("ours", "theirs")
    larger_is_better: bool = True
    aims: list = field(default_factory=list)
    # Rounds of its own, where a round is long.
    rounds: Optional[int] = None


def ratio(medians, ours="ours", other="theirs", larger_is_better=True):
    """How much better ours is: 1 is as good."""
    a, b = medians[ours]["value"], medians[other]["value"]
    return a / b if larger_is_better else b / a


def at_least(number, factor, other="theirs", larger_is_better=True, name=None):
    name = name or {"theirs": "HDFS", "machine": "the machine"}.get(other, other)
    return Aim(number, f"≥ {factor} × {name}", lambda m: ratio(m, other=other, larger_is_better=larger_is_better) >= factor)


def at_most(number, key, limit, unit):
    return Aim(number, f"≤ {limit} {unit}", lambda m: m["ours"].get(key, float("inf")) <= limit)


class Context:
    """What a benchmark works with: both sides, the driver, and how long it may take."""

    def __init__(self, bench, binary, ours, theirs, work, quick):
        self.bench, self.binary = bench, binary
        self.sides = {"ours": ours, "theirs": theirs}
        self.work = Path(work)
        self.quick = quick
        self.seconds = 1 if quick else 3
        self.mebibytes = 256 if quick else 1024
        self.kept = {}
        self.written = []

    def drive(self, *words, seconds=COMMAND_SECONDS):
        """One run of the driver: what it tells, and the processor time that it took."""
        line = [str(word) for word in (self.bench, *words)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(line, capture_output=True, text=True, timeout=seconds, env={**os.environ, "RUST_BACKTRACE": "0"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise Failure(f"{' '.join(line)}: {done.stderr.strip() or done.stdout.strip()}")
        told = json.loads(done.stdout)
        told["client_cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return told

    def drive_locally(self, *words):
        """As `drive`, of what needs a descriptor from a datanode: it verifies the replica first, and says "not yet" meanwhile."""
        end = time.monotonic() + DESCRIPTOR_SECONDS
        while True:
            try:
                return self.drive(*words)
            except Failure as failure:
                if "no descriptor" not in str(failure) or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def java(self, side):
        """The stock client of a side; it stays."""
        key = f"java-{side}"
        if key not in self.kept:
            self.kept[key] = JavaClient(self.work, self.sides[side].fs)
        return self.kept[key]

    def raw(self):
        """The machine's limits; measured again for every round that asks."""
        return self.drive("raw", "--folder", self.work / "raw", "--mebibytes", min(self.mebibytes, 512))

    def close(self):
        for kept in self.kept.values():
            kept.close()

    def new_file(self, side):
        """The path of a file that is not there yet."""
        path = f"{STREAM}-new-{len(self.written)}"
        self.written.append((side, path))
        return path

    def delete_new_files(self):
        for side, path in self.written:
            self.java(side).ask("delete", path)
        self.written.clear()

    def warm_memory(self):
        """
        Has the page cache take nearly all memory, once, with pages of a file without blocks. A virtual machine may give free memory
        back to its host, and then whoever writes first pays for getting it again: that is neither side's doing.
        """
        if "warm" in self.kept:
            return
        self.kept["warm"] = WarmMemory(self.work / "holes")

    def files(self):
        """Files of one block each on both sides, so that an open has something to tell."""
        if "files" in self.kept:
            return
        for side in self.sides.values():
            for number in range(FILES):
                self.drive("data", "--fs", side.fs, "--path", f"{FOLDER}/f{number}", "--work", "write", "--mebibytes", 1,
                           "--replication", 1)
        self.kept["files"] = Kept()


class Kept:
    def close(self):
        pass


def calls(context, side, op, connections, seconds=None):
    """Calls a second of one side, and what its namenode spent on each."""
    context.files()
    at = context.sides[side]
    before = at.namenode.cpu_seconds()
    told = context.drive("calls", "--fs", at.fs, "--op", op, "--connections", connections, "--seconds",
                         seconds or context.seconds, "--folder", FOLDER, "--json")
    spent = at.namenode.cpu_seconds() - before
    # Folders that are deleted were made first: the namenode worked for both.
    made = told["calls"] * (2 if op == "delete" else 1)
    return {"value": told["calls_per_s"], "p50_us": told["p50_us"], "p99_us": told["p99_us"],
            "server_cpu_us": spent / made * 1e6, "client_cpu_us": told["client_cpu_s"] / made * 1e6}


def call_cases(context, op, widths, aim, cpu):
    return [Case(f"{connections} connections", "calls/s",
                 lambda side, connections=connections: calls(context, side, op, connections),
                 aims=[at_least(aim, 4)] + ([at_most(aim, "server_cpu_us", cpu, "µs of the server a call")] if cpu else []))
            for connections in widths]


def latency_cases(context):
    """One caller, one call at a time: what it waits, beside what the machine makes it wait."""

    def p50(side, op):
        if side == "machine":
            raw = context.raw()
            bound = raw["tcp_round_trip_us"] + (raw["fdatasync_us"] if op == "create" else 0)
            return {"value": bound}
        found = calls(context, side, op, 1)
        return {**found, "value": found["p50_us"]}

    return [Case(f"{op}, p50", "µs", lambda side, op=op: p50(side, op), sides=("ours", "theirs", "machine"),
                 larger_is_better=False,
                 aims=[Aim(5, f"≤ {limit} × {bound}", lambda m, limit=limit: m["ours"]["value"] <= limit * m["machine"]["value"])])
            for op, limit, bound in (("stat", 1.2, "a TCP round trip"), ("create", 1.3, "(a TCP round trip + a sync)"))]


def grpc_cases(context):
    def measure(side):
        context.files()
        if side == "empty":
            if "empty" not in context.kept:
                context.kept["empty"] = EmptyServer(context.bench)
            server, words = context.kept["empty"], ()
            address, usage = server.address, Usage([server.process.pid])
        else:
            address, usage, words = context.sides["ours"].address, context.sides["ours"].namenode, ("--path", f"{FOLDER}/f1")
        before = usage.cpu_seconds()
        told = context.drive("grpc", "--address", address, "--connections", 64, "--seconds", context.seconds, *words)
        return {"value": told["calls_per_s"], "p50_us": told["p50_us"], "p99_us": told["p99_us"],
                "server_cpu_us": (usage.cpu_seconds() - before) / told["calls"] * 1e6}

    return [Case("stat, 64 connections", "calls/s", measure, sides=("ours", "empty"),
                 aims=[at_least(6, 0.9, "empty", name="an empty call of tonic")])]


class WarmMemory:
    """Pages of a sparse file in the page cache, until little memory is free."""

    LEFT_KIB = 700 << 10
    PIECE = 8 << 20

    def __init__(self, path):
        self.path = path
        free = self.free_kib()
        with open(path, "wb") as file:
            file.truncate(free << 10)
        with open(path, "rb", buffering=0) as file:
            piece = bytearray(self.PIECE)
            while self.free_kib() > self.LEFT_KIB and file.readinto(piece):
                pass

    @staticmethod
    def free_kib():
        return int(re.search(r"MemFree:\s+(\d+)", Path("/proc/meminfo").read_text())[1])

    def close(self):
        self.path.unlink(missing_ok=True)


class EmptyServer:
    def __init__(self, bench):
        self.process = subprocess.Popen([bench, "grpc-empty"], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def close(self):
        self.process.kill()
        self.process.wait()


def with_cpu(usage, work):
    """What `work` gives, and the seconds that these processes worked meanwhile."""
    before = usage.cpu_seconds()
    return work(), usage.cpu_seconds() - before


def streamed(context, side, client, work, replication=1, mebibytes=None):
    """Bytes a second through one client of one side, and what servers and client spent on a gigabyte."""
    at = context.sides[side]
    size = mebibytes or context.mebibytes
    # A new file every time: what was written before is deleted after the case, not while something is measured.
    path = context.new_file(side) if work == "write" else f"{STREAM}-{replication}"

    def run():
        if client == "java":
            java = context.java(side)
            spent = java.usage.cpu_seconds()
            words = ("write", path, size, replication) if work == "write" else ("read", path)
            done, took = java.ask(*words)
            return done, took, java.usage.cpu_seconds() - spent
        words = ("--ours",) if client == "ours" else ()
        drive = context.drive_locally if work == "local" else context.drive
        told = drive("data", "--fs", at.fs, "--path", path, "--work", work, "--mebibytes", size, "--replication",
                             replication, *words, *(("--local", at.local) if client == "ours" else ()))
        return told["bytes"], told["seconds"], told["client_cpu_s"]

    (done, took, client_cpu), servers = with_cpu(at.servers, run)
    gigabytes = done / 1e9
    return {"value": gigabytes / took, "server_cpu_s_per_gb": servers / gigabytes,
            "client_cpu_s_per_gb": client_cpu / gigabytes}


def stream_files(context, replication=1):
    """What is read: one block on each side, written by the light client."""
    if f"stream-{replication}" in context.kept:
        return
    for side in context.sides.values():
        context.drive("data", "--fs", side.fs, "--path", f"{STREAM}-{replication}", "--work", "write", "--mebibytes",
                      context.mebibytes, "--block-mebibytes", max(128, context.mebibytes), "--replication", replication)
    context.kept[f"stream-{replication}"] = Kept()


def of_machine(context, key):
    def measure():
        found = context.raw()[key]
        return {"value": found["gb_per_s"] if isinstance(found, dict) else found}
    return measure


def read_cases(context, client, machine=None, work="read", aims=(), label=None):
    def measure(side):
        if side == "machine":
            return of_machine(context, machine)()
        stream_files(context)
        return streamed(context, side, client, work)

    both = ("ours", "theirs") if client in ("java", "light") else ("ours",)
    return [Case(label or "one stream", "GB/s", measure, sides=both + (("machine",) if machine else ()), aims=list(aims))]


def write_cases(context, replication, aim, share):
    context.warm_memory()

    def measure(side, client):
        if side == "machine":
            found = context.raw()["disk_write"]["gb_per_s"]
            return {"value": found / replication}
        return streamed(context, side, client, "write", replication)

    disk = "the disk" if replication == 1 else "a third of the disk"
    cases = [Case("our client", "GB/s", lambda side: measure(side, "ours"), sides=("ours", "machine"),
                  aims=[at_least(aim, share, "machine", name=disk)])]
    for client, label in (("light", "light client"), ("java", "stock Java client")):
        cases.append(Case(label, "GB/s", lambda side, client=client: measure(side, client), aims=[at_least(aim, 2.4)]))
    return cases


def pread_cases(context):
    def light(side, connections):
        stream_files(context)
        told = context.drive("data", "--fs", context.sides[side].fs, "--path", f"{STREAM}-1", "--work", "pread",
                             "--connections", connections, "--seconds", context.seconds)
        return {"value": told["calls_per_s"], "p50_us": told["p50_us"], "p99_us": told["p99_us"]}

    def ours(side, work, connections):
        if side == "machine":
            return of_machine(context, "file_pread_per_s")()
        if side == "theirs":
            stream_files(context)
            reads, took = context.java(side).ask("pread", f"{STREAM}-1", context.seconds)
            return {"value": reads / took}
        stream_files(context)
        at = context.sides["ours"]
        drive = context.drive_locally if work == "pread-local" else context.drive
        told = drive("data", "--fs", at.fs, "--path", f"{STREAM}-1", "--work", work, "--ours", "--local", at.local,
                     "--connections", connections, "--seconds", context.seconds)
        return {"value": told["calls_per_s"], "p50_us": told["p50_us"], "p99_us": told["p99_us"]}

    return [Case("our client, local, 4 KiB", "reads/s", lambda side: ours(side, "pread-local", 1), sides=("ours", "machine"),
                 aims=[at_least(12, 0.7, "machine", name="a raw pread")]),
            Case("our client over TCP with 16 outstanding; the stock client one by one", "reads/s",
                 lambda side: ours(side, "pread", 16), aims=[at_least(12, 10)]),
            Case("light client, 16 connections", "reads/s", lambda side: light(side, 16))]


MOUNT_LINE = re.compile(r"^(?P<what>.+?): (?P<ours>[\d.]+) beside (?P<other>[\d.]+) (?P<unit>\S+), ratio(?: of speeds)? (?P<ratio>[\d.]+)",
                        re.M)


def mount_lines(text):
    """What `scripts/bench-mount` tells, as one row a line: label, unit, ours, the other side, larger is better."""
    return [(row["what"], row["unit"], float(row["ours"]), float(row["other"]), row["unit"] != "s")
            for row in MOUNT_LINE.finditer(text)]


MOUNT_AIMS = {
    "one block, local, in order beside the disk": (13, 0.95),
    "several blocks beside our client": (14, 0.8),
    "one block, not local, beside our client": (14, 0.8),
    "written in order beside our client": (14, 0.8),
    "cached stat beside the disk": (15, 0.9),
    "ls -l of 10,000 entries once more, beside the disk": (15, 0.5),
}


def mount_cases(context, only):
    """A mount beside the local disk and our client: a program of its own, whose medians are taken as they are."""
    script = HERE.parent.parent / "tests" / "conformance" / "bench_mount.py"
    line = ["python3", script, "--binary", context.binary, "--bench", context.bench, "--rounds", 3 if context.quick else 5,
            "--mebibytes", 128 if context.quick else 256]
    done = subprocess.run([str(word) for word in line] + [word for name in only for word in ("--only", name)],
                          capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise Failure(f"a mount beside the disk: {done.stderr[-2000:] or done.stdout[-2000:]}")
    cases = []
    for what, unit, ours, other, larger in mount_lines(done.stdout):
        values = {"ours": {"value": ours}, "beside": {"value": other}}
        number, factor = MOUNT_AIMS.get(what, (None, None))
        aims = [at_least(number, factor, "beside", larger, name="the other")] if number else []
        cases.append(Case(what, unit, lambda side, values=values: values[side], sides=("ours", "beside"),
                          larger_is_better=larger, aims=aims, rounds=1))
    return cases


def first_answer(context, fs, began, patience=300):
    """Seconds from `began` to the first answered stat."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done = subprocess.run([str(context.bench), "settings", "--fs", fs], capture_output=True)
        if done.returncode == 0:
            return time.monotonic() - began
        time.sleep(0.02)
    raise Failure(f"{fs} did not answer within {patience} s")


def used_bytes(folders):
    done = subprocess.run(["du", "-sb", *map(str, folders)], capture_output=True, text=True, check=True)
    return sum(int(line.split()[0]) for line in done.stdout.splitlines())


@dataclass
class Benchmark:
    name: str
    what: str
    aims: tuple
    cases: Callable
    quick: bool = True
    # Only who names it gets it.
    by_name: bool = False


BENCHMARKS = [
    Benchmark("rpc-stat", "getFileInfo over Hadoop RPC", (1,), lambda c: call_cases(c, "stat", (16, 64), 1, 6)),
    Benchmark("rpc-locations", "getBlockLocations over Hadoop RPC", (1,), lambda c: call_cases(c, "open", (16, 64), 1, 6)),
    Benchmark("rpc-listing", "getListing of 100 files over Hadoop RPC", (2,), lambda c: call_cases(c, "list", (16, 64), 2, 20)),
    Benchmark("rpc-create", "create of an empty file, durable", (3,), lambda c: call_cases(c, "create", (16, 64), 3, 15)),
    Benchmark("rpc-mkdirs", "mkdirs, durable", (3,), lambda c: call_cases(c, "mkdirs", (64,), 3, 15)),
    Benchmark("rpc-rename", "rename within a folder, durable", (3,), lambda c: call_cases(c, "rename", (64,), 3, 15)),
    Benchmark("rpc-delete", "delete of an empty folder, durable", (3,), lambda c: call_cases(c, "delete", (64,), 3, 15)),
    Benchmark("mix", "the published mix of calls", (4,), lambda c: call_cases(c, "mix", (64,), 4, None)),
    Benchmark("latency-one", "one caller, one call at a time", (5,), latency_cases),
    Benchmark("grpc", "stat over gRPC beside an empty call", (6,), grpc_cases),
    Benchmark("read-java", "read by the stock Java client, checksums verified, page cache warm", (7,),
              lambda c: read_cases(c, "java", aims=[at_least(7, 1.3), at_most(7, "server_cpu_s_per_gb", 0.2, "core-s a GB")])),
    Benchmark("read-light", "read by the light client, checksums verified, page cache warm", (),
              lambda c: read_cases(c, "light")),
    Benchmark("read-local", "read by our client through a descriptor that the datanode passes", (8,),
              lambda c: read_cases(c, "ours", "file_read", "local", [at_least(8, 0.9, "machine", name="a raw file read")])),
    Benchmark("read-tcp", "read by our client over TCP, checksums verified", (9,),
              lambda c: read_cases(c, "ours", "tcp_stream", aims=[at_least(9, 0.75, "machine", name="raw TCP")])),
    Benchmark("write-1", "write of one replica (ours is synced on close, HDFS's is not)", (10,), lambda c: write_cases(c, 1, 10, 0.65)),
    Benchmark("write-3", "write of three replicas on three datanodes (as above)", (11,), lambda c: write_cases(c, 3, 11, 0.65)),
    Benchmark("pread", "random reads of 4 KiB", (12,), pread_cases),
    Benchmark("fuse-bytes", "a mount's bytes beside ext4 and beside our client", (13, 14, 15), lambda c: mount_cases(c, ["bytes"]), False),
    Benchmark("fuse-folders", "a mount's large folders beside ext4", (15,), lambda c: mount_cases(c, ["folders"]), False),
    Benchmark("fuse-untar", "a source tree unpacked on a mount beside ext4", (), lambda c: mount_cases(c, ["untar"]), False),
]
