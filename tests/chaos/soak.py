#!/usr/bin/env python3
"""Mixed load for a long time, with a kill every 30 seconds and a disk fault every 5 minutes, then quiet.

Writers work through the stock client and ours, a Spark job writes and reads tables, the command line asks for sums. Now and then
the writers rest and all is compared with what was acknowledged. At the end every block must have its replicas, nothing may be
left over (blocks, replicas, open files, descriptors), and memory must be flat: the second third of the time is compared with
the last. The namenode is killed in the first third only and the last datanode never, so that there is something to compare.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import disks as faults
import patience
from bench import percentiles, until
from kills import DATANODES, Bench
from quiet import Leak, calm

KILL_EVERY = 30
FAULT_EVERY = 300
CHECK_EVERY = 120
SAMPLE_EVERY = 5
# How much more memory the last third may take than the second, and how many descriptors.
GROWTH = 1.05
MORE_DESCRIPTORS = 8
# A disk that is only busy with the work of others is not dropped.
SETTINGS = {"volume_check_timeout_ms": 15000, "scan_period_ms": 4000, "compare_period_ms": 2000}
# Nor is a datanode that waits for a processor.
NAMENODE = {
    "datanodes": {"stale_after_ms": 15000, "dead_after_ms": 30000},
    # Caches that are full before memory is compared: those of the defaults would still grow after hours.
    "store": {"block_cache_bytes": 8 << 20, "write_buffer_bytes": 8 << 20, "page_cache_bytes": 1 << 20,
              "inode_cache_entries": 2000, "entry_cache_entries": 2000, "event_cache_bytes": 1 << 20},
}
# How much longer than elsewhere everything may take: a soak runs beside other work.
PATIENCE = 3
# Processes that are to be measured, because nobody kills them in the time that is compared.
MEASURED = ["namenode", f"datanode-{DATANODES - 1}", "our client"]


class Usage:
    """Memory and descriptors of processes, over time."""

    def __init__(self):
        self.samples = {}

    def take(self, name, pid, at):
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
            count = len(os.listdir(f"/proc/{pid}/fd"))
        except (OSError, StopIteration):
            return
        self.samples.setdefault((name, pid), []).append((at, kib / 1024, count))

    def judge(self, duration):
        """A line for each process that lived through the last two thirds, and whether all are flat."""
        lines, flat, missed = [], True, set(MEASURED)
        for (name, pid), samples in sorted(list(self.samples.items())):
            # A machine that is busy may miss some samples.
            if samples[0][0] > duration * 0.4 or samples[-1][0] < duration * 0.95:
                continue
            second = [sample for sample in samples if duration / 3 <= sample[0] < duration * 2 / 3]
            last = [sample for sample in samples if sample[0] >= duration * 2 / 3]
            if not second or not last:
                continue
            missed.discard(name)
            memory = [statistics.median(sample[1] for sample in third) for third in (second, last)]
            # What is open for work under way comes and goes; what leaks stays, also in the quietest moments.
            files = [statistics.median_low([sample[2] for sample in third]) for third in (second, last)]
            good = memory[1] <= memory[0] * GROWTH and files[1] <= files[0] + MORE_DESCRIPTORS
            flat &= good
            lines.append(f"{name}: memory {memory[0]:.1f} -> {memory[1]:.1f} MiB ({(memory[1] / memory[0] - 1) * 100:+.1f} %), "
                         f"descriptors {files[0]} -> {files[1]}{'' if good else '  NOT FLAT'}")
        lines += [f"{name}: NOT MEASURED" for name in sorted(missed)]
        return lines, flat and not missed


class Soak(Bench):
    """The bench of kills, whose first datanode lies on two disks that fail."""

    job = None

    def prepare(self, root, disks):
        self.root, self.disks, self.usage = root, disks, Usage()
        self.faults, self.sums, self.commands, self.hung, self.person = [], 0, 0, None, threading.Thread()
        self.dropped = []
        self.began = time.monotonic()

    def elapsed(self):
        return time.monotonic() - self.began

    def sample(self):
        pids = {"namenode": self.cluster.namenode.process.pid, "our client": self.checker.pid()}
        pids.update({f"datanode-{number}": node.process.pid for number, node in enumerate(self.cluster.datanodes)})
        for name, pid in pids.items():
            if pid:
                self.usage.take(name, pid, self.elapsed())

    def sample_always(self, over):
        """Beside everything else, whatever that waits for."""
        while not over.wait(SAMPLE_EVERY):
            self.sample()

    # As the steps of disks.py see it.

    def write(self, name, count):
        """The load writes all the time."""
        time.sleep(count * 0.4)

    def read_all(self):
        time.sleep(1)

    def node(self):
        """The datanode with the disks that fail, as the namenode sees it."""
        paths = {str(disk.data) for disk in self.disks}
        nodes = (self.cluster.report() or {}).get("datanodes", [])
        return next((node for node in nodes if any(volume["path"] in paths for volume in
                                                   [*node["storages"], *node["volume_failures"]])), None)

    def failed(self, disk):
        node = self.node()
        found = node and [failure["why"] for failure in node["volume_failures"] if failure["path"] == str(disk.data)]
        return found[0] if found else None

    def whole(self):
        # While files are written there is always a block whose second replica is not yet known.
        self.load.rest()
        wrong = ("under_replicated", "missing", "corrupt")
        calm(self.cluster, lambda report: not any(report[name] for name in wrong), "all blocks are whole")
        self.load.resume()

    def use(self):
        """What was put in again is taken into service again, while the datanode runs."""
        ipc = self.cluster.ipc[0]

        def taken():
            self.cluster.admin("datanode", "reconfigure", f"127.0.0.1:{ipc}")
            node = self.node()
            serving = {volume["path"] for volume in node["storages"] if not volume["failed"]} if node else set()
            return serving == {str(disk.data) for disk in self.disks}

        until(taken, 90, "the disks serve again")

    def fault(self, step):
        """One disk fails while all processes run and all blocks are whole: nothing else is lost at the same time."""
        self.all_up()
        # One that was dropped though nothing was done to it is told at the end.
        self.dropped += [why for disk in self.disks if (why := self.failed(disk))]
        self.use()
        self.whole()
        disk = self.choose.choice(faults.candidates(step, self.disks))
        print(f"{self.elapsed():.0f} s: a disk fault: {step.__name__.replace('_', ' ')} on {disk.mount.name}", flush=True)
        step(self, disk)
        self.use()
        self.whole()
        self.faults.append(step.__name__)

    # Load beside the writers.

    def start_job(self, spark, seconds):
        line = [spark, str(pathlib.Path(__file__).with_name("soak_job.py")), self.cluster.url, str(seconds)]
        with open(self.root / "job.log", "ab") as log:
            self.job = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                        start_new_session=True)

    def end_job(self):
        if self.job is None:
            return "no Spark"
        try:
            status = self.job.wait(patience.stretched(180))
        except subprocess.TimeoutExpired:
            os.killpg(self.job.pid, signal.SIGKILL)
            raise Leak("the Spark job does not end") from None
        rounds = [line for line in (self.root / "job.log").read_text(errors="replace").splitlines() if line.startswith("round")]
        failed = [line for line in rounds if "failed" in line]
        if status != 0:
            raise Leak(f"the Spark job ended with {status}: {(self.root / 'job.log').read_text()[-1500:]}")
        if not len(rounds) > len(failed):
            raise Leak(f"no round of the Spark job was done: {failed[-1:]}")
        return f"Spark: {len(rounds)} rounds, {len(failed)} of them failed: {failed[-1:]}"

    def command_line(self):
        """Commands of people beside it, one at a time: they may fail while things are killed, and must not hang."""
        if self.person.is_alive():
            return
        if self.hung:
            raise Leak(f"{self.hung} hangs")
        words = self.choose.choice([("fs", "du", "-s", "/"), ("fs", "ls", "-R", "/"), ("fs", "count", "/"), ("fs", "df"),
                                    ("admin", "report"), ("fs", "tree", "/")])

        def run():
            if self.cluster.run(*words, seconds=200).returncode == 124:
                self.hung = " ".join(words)
            else:
                self.commands += 1

        self.person = threading.Thread(target=run, daemon=True)
        self.person.start()

    def compare_sums(self):
        """What `du` tells of each writer's folder is the ledger's sum."""
        for writer in self.load.writers:
            if writer.stream:
                continue
            answer = self.cluster.fs("du", "-s", "--json", writer.root, seconds=120)
            if answer.returncode != 0:
                raise Leak(f"du of {writer.root}: {answer.returncode}, {answer.stderr.decode(errors='replace')}")
            told = json.loads(answer.stdout)
            files = [node for node in writer.tree.values() if node.is_file()]
            wanted = (sum(len(node.data) for node in files), len(files), len(writer.tree) - len(files) + 1)
            if (told["length"], told["files"], told["directories"]) != wanted:
                raise Leak(f"du of {writer.root}: {told}, where {wanted} was acknowledged")
            self.sums += 1


STEPS = [faults.read_only, faults.frozen, faults.full, faults.rotten, faults.cut, faults.pulled]


def run(soak, duration, kill_every, fault_every, check_every):
    steps = []
    due = {"kill": kill_every, "fault": fault_every, "check": check_every, "line": 7}
    soak.load.resume()
    while (now := soak.elapsed()) < duration:
        soak.start_due()
        if now >= due["line"]:
            due["line"] = now + 7
            soak.command_line()
        if now >= due["kill"]:
            due["kill"] += kill_every
            spared = {f"datanode-{DATANODES - 1}"} | ({"namenode"} if now > duration / 3 - kill_every else set())
            soak.kill_one(spared)
        if now >= due["fault"]:
            steps = steps or soak.choose.sample(STEPS, len(STEPS))
            step = steps.pop()
            soak.fault(step)
            print(f"{now:.0f} s: disk fault survived: {step.__name__.replace('_', ' ')}", flush=True)
            due["fault"] = max(due["fault"] + fault_every, soak.elapsed())
        if now >= due["check"]:
            due["check"] = now + check_every
            # What is open has no sum yet.
            soak.check(everything=True, close=True)
            soak.compare_sums()
            print(f"{now:.0f} s: {sum(soak.killed.values())} kills, {soak.load.told()}: all there", flush=True)
            soak.load.resume()
        # What was missed while something else was done is not made up for.
        due["kill"] = max(due["kill"], soak.elapsed() - kill_every)
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kill-every", type=float, default=KILL_EVERY, help="seconds")
    parser.add_argument("--fault-every", type=float, default=FAULT_EVERY, help="seconds")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="how many times longer than usual is waited for an answer")
    parser.add_argument("--ours-only", action="store_true", help="no stock client, no Spark, and so no Java")
    parser.add_argument("--keep", action="store_true", help="leave the folder if something was wrong")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    patience.FACTOR = arguments.patience
    duration = arguments.minutes * 60
    # A short one has some of everything too.
    short = duration < 2 * FAULT_EVERY
    kill_every, fault_every = (min(arguments.kill_every, 5), 20) if short else (arguments.kill_every, arguments.fault_every)
    check_every = min(CHECK_EVERY, duration / 4)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    # The steps draw disks and bytes from here.
    random.seed(seed)
    root, good, soak, disks = pathlib.Path(tempfile.mkdtemp(prefix="steadfs-soak-")), False, None, []
    over = threading.Event()
    try:
        disks += [faults.Disk(root, "disk-a")]
        disks += [faults.Disk(root, "disk-b")]
        soak = Soak(arguments.binary, root, random.Random(seed), volumes={0: [disk.data for disk in disks]},
                    datanode_settings=SETTINGS, settings=NAMENODE)
        soak.start(arguments.ours_only)
        soak.prepare(root, disks)
        threading.Thread(target=soak.sample_always, args=(over,), daemon=True).start()
        spark = os.environ.get("SPARK35")
        if spark and not arguments.ours_only:
            soak.start_job(spark, max(30, duration - 60))
        run(soak, duration, kill_every, fault_every, check_every)
        good = conclude(soak, duration, short)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told with what the cluster says of itself
        print(f"WRONG: {error!r}", flush=True)
        if not isinstance(error, Leak | TimeoutError):
            traceback.print_exc()
        if soak and soak.cluster.namenode:
            print(soak.cluster.admin("report").stdout.decode()[-4000:], flush=True)
    finally:
        over.set()
        if soak:
            soak.end()
            if soak.job and soak.job.poll() is None:
                os.killpg(soak.job.pid, signal.SIGKILL)
        if good or not arguments.keep:
            for disk in disks:
                disk.clear()
            subprocess.run(["rm", "-rf", root], check=False)
        else:
            print(f"what is left: {root}, with its mounts", flush=True)
    print("all is well" if good else "NOT WELL")
    sys.exit(0 if good else 1)


def conclude(soak, duration, short):
    """The end of it: nothing lost, nothing left over, and how flat it was."""
    lines, flat = soak.usage.judge(duration)
    job = soak.end_job()
    if soak.job:
        soak.checker.ask("delete", "/spark")
    left = soak.finish()
    print(f"{sum(soak.killed.values())} kills {dict(soak.killed)}, disk faults {soak.faults}, {soak.sums} sums by du, "
          f"{soak.commands} commands; {job}")
    if soak.dropped:
        print(f"disks dropped though nothing was done to them: {soak.dropped}")
    print(f"{soak.load.told()}; {left}; {soak.load.slowest()}; refused meanwhile: {soak.load.refusals()[:8]}")
    if soak.starts["namenode"]:
        print(f"starts of the namenode: {percentiles(soak.starts['namenode'])}")
    print("\n".join(lines))
    # In minutes nothing has come to rest.
    return flat or short


if __name__ == "__main__":
    main()
