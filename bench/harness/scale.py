"""What grows with the number of files: start, memory, disk, and block reports."""

import json
import shutil
import subprocess
import time

from machine import Usage
from measures import Aim, Benchmark, Case, Kept, at_most, first_answer, used_bytes
from peer import free_port
from sides import Failure, command, write_conf

SECONDS = 3_600
REPLICATION = 3


class Synthetic:
    """
    A namenode of ours with so many made-up files of one block, in folders of its own; not the cluster that others use.
    `more` is further configuration.
    """

    def __init__(self, context, files, more="", name=None):
        self.binary, self.files = context.binary, files
        self.folder = context.work / (name or f"synthetic-{files}")
        self.folder.mkdir()
        self.address, self.http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.config = self.folder / "config.toml"
        folders = json.dumps([str(self.folder / "a"), str(self.folder / "b")])
        self.config.write_text(f'listen = "{self.address}"\nhttp_listen = "{self.http}"\ndata_dirs = {folders}\n'
                               f"[insecure]\nsimple = true\n[upkeep]\nreserved_bytes = 0\n{more}")
        self.process = None
        self.made = {"first_block": 0, "end_block": 0, "stamp": 0}
        if files:
            self.made = self.make(files)

    def make(self, files, *options):
        """Makes files up while it does not run; what `admin synth` tells."""
        done = subprocess.run([self.binary, "admin", "synth", "--config", self.config, "--files", str(files), *map(str, options)],
                              capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise Failure(f"admin synth: {done.stderr[-1000:]}")
        return json.loads(done.stdout)

    def start(self, context):
        """Seconds to the first answer."""
        began = time.monotonic()
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen([self.binary, "namenode", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log)
        return first_answer(context, f"hdfs://{self.address}", began)

    @property
    def usage(self):
        return Usage([self.process.pid])

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def synthetic(context, files):
    key = f"synthetic-{files}"
    if key not in context.kept:
        context.kept[key] = Synthetic(context, files)
    return context.kept[key]


def files_of(context):
    return 100_000 if context.quick else 1_000_000


def fill_theirs(context, files):
    """As many empty files for Apache HDFS, and an image of them: a start reads it, not the edits."""
    if "theirs-files" in context.kept:
        return
    theirs = context.sides["theirs"]
    theirs.idle_bytes = theirs.namenode.resident_bytes()
    done = subprocess.run([context.bench, "files", "--fs", theirs.fs, "--count", str(files)], capture_output=True, text=True,
                          timeout=SECONDS)
    if done.returncode:
        raise Failure(f"files: {done.stderr[-1000:]}")
    conf = write_conf(context.work / "conf-admin", theirs.settings)
    for arguments in (("-safemode", "enter"), ("-saveNamespace",), ("-safemode", "leave")):
        subprocess.run(command(conf, "org.apache.hadoop.hdfs.tools.DFSAdmin", "-fs", theirs.fs, *arguments), check=True,
                       capture_output=True, timeout=SECONDS)
    context.kept["theirs-files"] = Kept()


def restart_cases(context):
    files = files_of(context)

    def measure(side, count):
        if side == "theirs":
            fill_theirs(context, count)
            theirs = context.sides["theirs"]
            return {"value": first_answer(context, theirs.fs, theirs.restart_namenode())}
        namenode = synthetic(context, count)
        namenode.stop()
        return {"value": namenode.start(context)}

    cases = [Case(f"{files:,} files", "s", lambda side: measure(side, files), larger_is_better=False, rounds=3,
                  aims=[at_most(16, "value", 2, "s")])]
    for count in (0, files // 10):
        cases.insert(0, Case(f"{count:,} files", "s", lambda side, count=count: measure(side, count), sides=("ours",),
                             larger_is_better=False, rounds=3))
    return cases


def disk_cases(context):
    files = files_of(context)

    def measure(side):
        if side == "theirs":
            fill_theirs(context, files)
            found = context.sides["theirs"].name_folders[0].glob("current/fsimage_*")
            # Their checksums end in a digit too.
            images = sorted(path for path in found if path.suffix != ".md5")
            return {"value": images[-1].stat().st_size / files}
        # Once started and stopped, what was in memory is in the store.
        namenode = synthetic(context, files)
        if not namenode.process:
            namenode.start(context)
        namenode.stop()
        return {"value": used_bytes([namenode.folder / "a" / "store"]) / files}

    return [Case("a file of one block in one copy of the store; HDFS's image has the same number of empty files", "bytes", measure,
                 larger_is_better=False, rounds=1, aims=[at_most(18, "value", 250, "bytes")])]


def swarm(context, replicas):
    """Three datanodes that are none report all replicas; what it cost the namenode."""
    files = replicas // REPLICATION
    namenode = synthetic(context, files)
    namenode.stop()
    namenode.start(context)
    before = namenode.usage.resident_bytes()
    told = context.drive("swarm", "--address", namenode.address, "--nodes", REPLICATION, "--first-block",
                         namenode.made["first_block"], "--end-block", namenode.made["end_block"], "--stamp",
                         namenode.made["stamp"], "--replication", REPLICATION, "--seconds", 5, "--pid", namenode.process.pid)
    told["memory"] = namenode.usage.resident_bytes() - before
    namenode.stop()
    return told


def memory_cases(context):
    files = files_of(context)

    def replica(_side):
        told = swarm(context, files)
        return {"value": told["memory"] / told["replicas"]}

    def process(side):
        if side == "theirs":
            fill_theirs(context, files)
            theirs = context.sides["theirs"]
            return {"value": theirs.namenode.resident_bytes() / 1e6, "idle_mb": theirs.idle_bytes / 1e6}
        namenode = synthetic(context, files)
        namenode.stop()
        namenode.start(context)
        found = {"value": namenode.usage.resident_bytes() / 1e6}
        namenode.stop()
        return found

    def datanodes(side):
        at = context.sides[side]
        everything, namenode = at.servers.resident_bytes(), at.namenode.resident_bytes()
        return {"value": (everything - namenode) / 3 / 1e6}

    return [Case("a replica's location", "bytes of the process", replica, sides=("ours",), larger_is_better=False, rounds=1,
                 aims=[at_most(17, "value", 16, "bytes a replica")]),
            Case(f"the namenode's process with {files:,} files", "MB", process, larger_is_better=False, rounds=1),
            Case("a datanode's process as it is", "MB", datanodes, larger_is_better=False, rounds=1)]


def report_cases(context):
    replicas = files_of(context)

    def measure(_side):
        told = swarm(context, replicas)
        return {"value": told["namenode_cpu_s"] / told["replicas"] * 1e6, "reported_s": told["reported_s"]}

    return [Case(f"a first report of {replicas:,} replicas, a million", "core-s of the namenode", measure, sides=("ours",),
                 larger_is_better=False, rounds=1,
                 aims=[Aim(19, "≤ 2 core-s for a million replicas", lambda m: m["ours"]["value"] <= 2)])]


BENCHMARKS = [
    Benchmark("restart", "the namenode from its start to its first answer", (16,), restart_cases),
    Benchmark("memory", "resident memory", (17,), memory_cases),
    Benchmark("disk", "disk a file", (18,), disk_cases),
    Benchmark("report", "block reports, from datanodes that are none", (19,), report_cases),
]
