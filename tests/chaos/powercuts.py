#!/usr/bin/env python3
"""The power fails under a writing load: every disk forgets what was not synced, and all processes die.

Each folder of the namenode and each datanode has an ext4 file system of its own on a loop device. A cut is
EXT4_IOC_SHUTDOWN without flushing the log, on all of them or on some, then SIGKILL; then all is mounted and started again,
and everything that was acknowledged must be there, to the byte.
"""

import argparse
import fcntl
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from bench import Cluster, Ledger, until

# _IOR('X', 125, __u32)
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
WRITERS = 3


class Disk:
    def __init__(self, root, name, megabytes):
        self.image, self.mount = root / f"{name}.image", root / name
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        self.mount.mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, capture_output=True)
        self.attach()

    def attach(self):
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.mount)], check=True, capture_output=True)

    def cut(self):
        folder = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def detach(self):
        subprocess.run(["umount", str(self.mount)], check=False, capture_output=True)


class Load:
    """Writers that note what was acknowledged."""

    def __init__(self, cluster, ledger, life):
        self.cluster, self.ledger, self.stop = cluster, ledger, threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(life, number)) for number in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self, life, number):
        turn = 0
        while not self.stop.is_set():
            turn += 1
            name = f"{life}-{number}-{turn}"
            if turn % 3:
                self.ledger.mkdir(self.cluster, f"/folders/{name}")
            else:
                self.ledger.put(self.cluster, f"/files-{name}", os.urandom(random.randrange(1, 200_000)))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def one_cut(cluster, disks, ledger, life, choose):
    load = Load(cluster, ledger, life)
    time.sleep(choose.uniform(0.3, 1.5))
    # All at once mostly; or one disk, whose machine goes on for a moment.
    victims = list(disks.values()) if choose.random() < 0.7 else [choose.choice(list(disks.values()))]
    for disk in victims:
        disk.cut()
    if len(victims) < len(disks):
        time.sleep(choose.uniform(0, 0.5))
    cluster.stop(9)
    load.end()
    for disk in disks.values():
        disk.detach()
        disk.attach()
    began = time.monotonic()
    if not cluster.everything():
        return None, [f"does not start: {cluster.words()}"], []
    until(lambda: b"is off" in cluster.admin("safemode", "get").stdout, what="the end of safe mode")
    took = time.monotonic() - began
    lost = ledger.lost_names(cluster)
    wrong, unread = ledger.bad_files(cluster)
    return took, lost + [f"cannot be read: {path}" for path in unread], wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    # Who is told to stop leaves no mount behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    choose, starts, failed = random.Random(seed), [], 0
    with tempfile.TemporaryDirectory(prefix="steadfs-cuts-", ignore_cleanup_errors=True) as folder:
        root = pathlib.Path(folder)
        disks = {}
        try:
            for name, megabytes in (("a", 192), ("b", 192), ("datanode-0", 256), ("datanode-1", 256)):
                disks[name] = Disk(root, name, megabytes)
            cluster = Cluster(arguments.binary, root, datanodes=2, a=root / "a" / "data", b=root / "b" / "data")
            ledger = Ledger()
            assert cluster.everything(), cluster.words()
            until(lambda: cluster.admin("safemode", "leave").returncode == 0, what="the start")
            for life in range(arguments.cuts):
                took, lost, wrong = one_cut(cluster, disks, ledger, life, choose)
                failed += bool(lost or wrong)
                if took is not None:
                    starts.append(took)
                shown = "ok" if not lost and not wrong else f"LOST {lost[:3]} WRONG {wrong[:3]}"
                print(f"cut {life + 1}: {len(ledger.folders)} folders, {len(ledger.files)} files: {shown}", flush=True)
                if lost and took is None:
                    break
            cluster.stop(9)
        finally:
            for disk in disks.values():
                subprocess.run(["umount", "-l", str(disk.mount)], check=False, capture_output=True)
    if starts:
        starts.sort()
        print(f"starts took {starts[len(starts) // 2]:.1f} s in the middle, {starts[-1]:.1f} s at most")
    print(f"{len(starts)} of {arguments.cuts} cuts survived a start, {failed} lost something")
    sys.exit(1 if failed or len(starts) < arguments.cuts else 0)


if __name__ == "__main__":
    main()
