#!/usr/bin/env python3
"""How soon a lost datanode or disk is made good, and how much of the foreground's speed repair and scanning take.

A node: three datanodes hold every block, a fourth is empty; one is killed. A disk: one of the three holds its replicas on a
disk that becomes read-only, and has another, empty one. Told are the seconds until the loss is known, and from then until
every block has its replicas again. Heartbeats, streams and bandwidth are the defaults; only the time after which a silent
datanode counts as lost is shorter, as it is waited for and nothing else.

Wants a release build, a quiet machine, root, and 6 GiB of disk.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from bench import Cluster, until
from disks import Disk

LOST_AFTER = 12
MIB = 1 << 20
SHAPES = [(200, 1), (20, 64)]
FOREGROUND_MIB = 256
ROUNDS = 5
# What a cluster has that nobody configured, but for the silence after which a datanode is lost.
DEFAULTS = {
    "datanodes": {"heartbeat_interval_ms": 3000, "block_report_interval_ms": 21600000, "stale_after_ms": 30000,
                  "dead_after_ms": LOST_AFTER * 1000},
    "namespace": {"min_block_size_bytes": MIB, "default_block_size_bytes": 128 * MIB, "default_replication": 3},
    "journal": {"segment_bytes": 16777216, "flush_distance_entries": 200000, "kept_bytes": 16777216,
                "seal_after_idle_ms": 1000},
    "upkeep": {"reserved_bytes": 0, "check_interval_ms": 1000, "store_copy_interval_ms": 300000},
}


class Bench:
    def __init__(self, binary, root, datanodes, **more):
        self.root = root
        self.cluster = Cluster(binary, root / "cluster", datanodes=datanodes, settings=DEFAULTS, **more)
        self.source = root / "source"

    def __enter__(self):
        assert self.cluster.up(), self.cluster.words()
        self.cluster.leave_safe_mode()
        return self

    def __exit__(self, *_):
        self.cluster.stop(9)
        shutil.rmtree(self.cluster.root, ignore_errors=True)

    def start(self, *numbers):
        for number in numbers:
            self.cluster.start_datanode(number)
        for number in numbers:
            until(lambda: self.cluster.datanode_ready(number), what="a datanode")

    def ok(self, *words):
        done = self.cluster.run(*words, seconds=300)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def fill(self, count, mebibytes):
        self.source.write_bytes(os.urandom(mebibytes * MIB))
        self.ok("fs", "mkdir", "-p", "/files")
        # Names are many, bytes are the same: one start of a program for some of them.
        for start in range(0, count, 20):
            links = [self.root / f"file-{number}" for number in range(start, min(start + 20, count))]
            for link in links:
                link.hardlink_to(self.source)
            self.ok("fs", "put", "-q", *map(str, links), "/files/")
            for link in links:
                link.unlink()
        self.whole()

    def state(self):
        report = self.cluster.report()
        return report["under_replicated"], report["dead_datanodes"], report

    def whole(self, seconds=600):
        until(lambda: self.state()[0] == 0, seconds, "all blocks whole")


def lost_node(binary, root, count, mebibytes):
    with Bench(binary, root, 4) as bench:
        bench.start(0, 1, 2)
        bench.fill(count, mebibytes)
        bench.start(3)
        time.sleep(4)
        began = time.monotonic()
        bench.cluster.datanodes[0].kill()
        until(lambda: bench.state()[1] == 1, 60, "it is lost")
        known = time.monotonic()
        until(lambda: bench.state()[0] >= count * 0.5 or time.monotonic() > known + 2, 10)
        bench.whole()
        return known - began, time.monotonic() - known


def lost_disk(binary, root, count, mebibytes):
    disk = Disk(root, "disk", 400 + 2 * count * mebibytes)
    try:
        with Bench(binary, root, 4, volumes={0: [disk.data]}) as bench:
            bench.start(0, 1, 2)
            bench.fill(count, mebibytes)
            bench.start(3)
            config = bench.cluster.root / "datanode-0.toml"
            config.write_text(config.read_text() + f'[[volumes]]\npath = "{root / "other"}"\n')
            bench.ok("admin", "datanode", "reconfigure", f"127.0.0.1:{bench.cluster.ipc[0]}")
            time.sleep(4)
            began = time.monotonic()
            name = os.path.basename(disk.device())
            pathlib.Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")
            number = 0

            def failed():
                # Somebody writes, as always.
                nonlocal number
                number += 1
                bench.cluster.run("fs", "put", "-q", "-", f"/small-{number}", input=b"x" * 1000)
                return any(node["volume_failures"] for node in bench.state()[2]["datanodes"])

            until(failed, 120, "it is told")
            known = time.monotonic()
            until(lambda: bench.state()[0] > 0 or time.monotonic() > known + 5, 10)
            bench.whole()
            return known - began, time.monotonic() - known
    finally:
        disk.clear()
        disk.image.unlink()
        disk.mount.rmdir()
        shutil.rmtree(root / "other", ignore_errors=True)


def speeds(bench, number):
    """MiB/s of writing a file with two replicas, and of reading it."""
    times = []
    for words in (("put", "-q", "-f", str(bench.source), f"/foreground-{number}"), ("cat", f"/foreground-{number}")):
        command = [bench.cluster.binary, "fs", *words]
        environment = {**os.environ, "STEADFS_URL": bench.cluster.url, "HADOOP_USER_NAME": "root"}
        began = time.monotonic()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=300)
        times.append(FOREGROUND_MIB / (time.monotonic() - began))
    bench.ok("fs", "rm", "--skip-trash", f"/foreground-{number}")
    return times


def rounds(bench, with_it, without_it):
    """Medians of writing and reading, without and with something, in turns."""
    found = {"without": [], "with": []}
    for number in range(ROUNDS):
        for name, prepare in (("without", without_it), ("with", with_it)):
            finish = prepare()
            found[name].append(speeds(bench, number))
            if finish:
                finish()
    return {name: [statistics.median(sample[at] for sample in samples) for at in (0, 1)] for name, samples in found.items()}


def share_of_repair(binary, root):
    """Files of two replicas are told to have three, and the foreground goes on."""
    with Bench(binary, root, 4) as bench:
        bench.start(0, 1, 2, 3)
        bench.fill(24, 64)
        bench.ok("fs", "setrep", "2", "/files")
        bench.source.write_bytes(os.urandom(FOREGROUND_MIB * MIB))
        lasted, left = [], []

        def repairing():
            bench.ok("fs", "setrep", "3", "/files")
            began = time.monotonic()

            def finish():
                left.append(bench.state()[0])
                bench.whole()
                lasted.append(time.monotonic() - began)
                bench.ok("fs", "setrep", "2", "/files")
                time.sleep(8)

            return finish

        return {**rounds(bench, repairing, lambda: time.sleep(1)), "repair_seconds": lasted, "left_at_the_end": left}


def share_of_scans(binary, root):
    """The datanodes read all replicas again and again, as fast as their bound lets them."""
    with Bench(binary, root, 4) as bench:
        bench.start(0, 1, 2, 3)
        bench.fill(24, 64)
        bench.source.write_bytes(os.urandom(FOREGROUND_MIB * MIB))

        def period(milliseconds):
            for number in range(4):
                bench.cluster.datanodes[number].kill(signal.SIGTERM)
                config = bench.cluster.root / f"datanode-{number}.toml"
                lines = [line for line in config.read_text().splitlines(keepends=True) if not line.startswith("scan_period")]
                config.write_text(f"scan_period_ms = {milliseconds}\n" + "".join(lines))
            bench.start(0, 1, 2, 3)
            time.sleep(4)

        return rounds(bench, lambda: period(1000), lambda: period(0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=3, help="of each loss")
    parser.add_argument("what", nargs="*", default=["node", "disk", "repair", "scan"])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="steadfs-repair-", ignore_cleanup_errors=True) as folder:
        root = pathlib.Path(folder)
        for name, lose in (("node", lost_node), ("disk", lost_disk)):
            for count, mebibytes in SHAPES if name in arguments.what else []:
                found = [lose(arguments.binary, root, count, mebibytes) for _ in range(arguments.rounds)]
                known, whole = (statistics.median(times) for times in zip(*found))
                print(f"a lost {name}, {count} blocks of {mebibytes} MiB: known after {known:.1f} s, whole {whole:.1f} s later "
                      f"({', '.join(f'{times[1]:.1f}' for times in found)})", flush=True)
        for name, share in (("repair", share_of_repair), ("scan", share_of_scans)):
            if name in arguments.what:
                found = share(arguments.binary, root)
                for at, verb in ((0, "writing"), (1, "reading")):
                    without, beside = found["without"][at], found["with"][at]
                    print(f"{verb} beside {name}: {beside:.0f} MiB/s of {without:.0f}, {100 * (1 - beside / without):.0f} % less")
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
