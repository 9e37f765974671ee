#!/usr/bin/env python3
"""Replicas are moved from a full datanode to an empty one: by order, and by the namenode itself.

Each of two datanodes has a disk of its own (ext4 on a loop device), and one of them gets all the files. An order moves no
faster than it says, can be taken back, and ends when both are about equally full; without an order the same comes about more
slowly. While replicas are moved no block ever has fewer than it should have, and every file can be read.
"""

import argparse
import json
import shutil
import sys
import time

import disks
from bench import until
from cluster import Cluster
from disks import Bench, Disk

FILES = 60
BANDWIDTH = 2 << 20
BLOCK = 1 << 20
# Moves that were ordered when an order is taken back still come to their end.
ORDERED = 16 * BLOCK


class Node(Bench):
    """One of the datanodes, with one disk."""

    def __init__(self, cluster, binary, root, index):
        super().__init__(cluster, binary, root)
        self.endpoint = cluster.endpoints["datanodes"][index]
        self.disk = Disk(root, f"disk-{index}")
        self.use([self.disk])

    def percent(self):
        volumes = [volume for volume in self.node()["storages"] if not volume["failed"]]
        return 100 * sum(v["used"] for v in volumes) / max(1, sum(v["capacity"] for v in volumes))


def admin(node, *words):
    done = node.run("admin", *words)
    assert done.returncode == 0, (words, done.stderr, done.stdout)
    return done.stdout.decode()


def status(node):
    return json.loads(admin(node, "balance", "--status", "--json"))


def nothing_lacks(node):
    report = node.report()
    assert not (report["under_replicated"] or report["missing"] or report["corrupt"]), report


def watch(node, condition, seconds, what):
    """Waits, and looks all the time whether a block lacks a replica."""
    def looked():
        nothing_lacks(node)
        return condition()

    return until(looked, seconds, what)


def fill(full, empty):
    # In maintenance it gets no replicas.
    admin(full, "maintenance", "--for", "1h", empty.endpoint["uuid"])
    full.write("file", FILES)
    admin(full, "recommission", empty.endpoint["uuid"])
    assert empty.percent() < 2 and full.percent() > 30, (empty.percent(), full.percent())


def settled(node):
    """The bytes moved when no more are."""
    seen = [status(node)["moved_bytes"]]

    def same():
        time.sleep(3)
        seen.append(status(node)["moved_bytes"])
        return seen[-1] == seen[-2]

    watch(node, same, 60, "nothing more is moved")
    return seen[-1]


def by_order(full, empty):
    fill(full, empty)
    begun = time.monotonic()
    admin(full, "balance", "--threshold", "3", "--bandwidth", str(BANDWIDTH), "--no-wait")
    watch(full, lambda: status(full)["moved_bytes"] >= 10 << 20, 120, "something is moved")
    admin(full, "balance", "--stop")
    took = time.monotonic() - begun
    stopped = status(full)
    assert not stopped["ordered"], stopped
    moved = stopped["moved_bytes"]
    # Two moves at a time, each as fast as was said.
    assert moved <= 2 * BANDWIDTH * (took + 1) + 4 * BLOCK, (moved, took)
    later = settled(full)
    assert later - moved <= ORDERED, (moved, later)
    print(f"  by order: {moved >> 20} MiB in {took:.1f} s with {BANDWIDTH >> 20} MiB/s a move, then taken back", flush=True)
    admin(full, "balance", "--threshold", "3", "--bandwidth", "1GiB", "--no-wait")
    watch(full, lambda: not status(full)["ordered"], 120, "the order ends")
    even(full, empty)


def by_itself(full, empty):
    fill(full, empty)
    watch(full, lambda: abs(full.percent() - empty.percent()) < 8, 240, "the namenode moves replicas by itself")
    even(full, empty)


def even(full, empty):
    watch(full, lambda: abs(full.percent() - empty.percent()) < 8, 60, "both are about equally full")
    full.whole()
    print(f"  {full.percent():.1f} % and {empty.percent():.1f} % of the disks are used; all {len(full.written)} files are whole", flush=True)


def case(binary, background, play):
    settings = [f"balancer.background={background}", "balancer.threshold_percent=3.0", "heartbeat_interval_ms=300"]
    words = [word for setting in settings for word in ("--set", setting)]
    failed = True
    with Cluster(binary, "--replication", "1", "--block-size", "1MiB", *words, datanodes=2) as cluster:
        root = cluster.folder / "disks"
        root.mkdir()
        nodes = []
        try:
            nodes = [Node(cluster, binary, root, index) for index in range(2)]
            play(*nodes)
            failed = False
        finally:
            for node in nodes:
                node.disk.clear()
            if not failed:
                shutil.rmtree(root, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    disks.MEGABYTES = 400
    case(options.binary, "false", by_order)
    case(options.binary, "true", by_itself)
    print("replicas were moved, and nothing lacked meanwhile", flush=True)


if __name__ == "__main__":
    sys.exit(main())
