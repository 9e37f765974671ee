#!/usr/bin/env python3
"""The power fails under a writing load: disks forget what was not synced, and the processes on them die.

Each folder of the namenode and each datanode has an ext4 file system of its own on a loop device. A cut is
EXT4_IOC_SHUTDOWN without flushing the log, then SIGKILL: of all machines at once, of one, or of one disk whose process goes on
for a moment. The load goes on all the time, through the stock client and ours; after each cut it rests, and everything that
was acknowledged must be there, to the byte.
"""

import argparse
import collections
import fcntl
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

from bench import Cluster, percentiles, preloaded, until
from hand import our_hand, stock_hand
from ledger import Load

# _IOR('X', 125, __u32)
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
DATANODES = 3
MEGABYTES = 320
# Every so often all files are read, not only those that changed.
EVERYTHING = 20


class Disk:
    """An ext4 file system on a loop device that stays."""

    def __init__(self, root, name):
        image, self.mount = root / f"{name}.image", root / name
        with open(image, "wb") as file:
            file.truncate(MEGABYTES << 20)
        self.mount.mkdir()
        run("mkfs.ext4", "-q", "-F", image)
        self.device = run("losetup", "--find", "--show", image).strip()
        run("mount", self.device, self.mount)

    def cut(self):
        folder = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def again(self):
        run("umount", self.mount)
        run("mount", self.device, self.mount)

    def gone(self):
        subprocess.run(["umount", "-l", self.mount], check=False, capture_output=True)
        subprocess.run(["losetup", "-d", self.device], check=False, capture_output=True)


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


class Machines:
    """What runs on which disks."""

    def __init__(self, binary, root, disks):
        names = ["namenode", *(f"datanode-{number}" for number in range(DATANODES))]
        for name in names[1:]:
            disks[name] = Disk(root, name)
        for name in ("a", "b"):
            disks[name] = Disk(root, name)
        self.disks = {name: [disks[name]] for name in names[1:]}
        self.disks["namenode"] = [disks["a"], disks["b"]]
        volumes = {number: [disks[f"datanode-{number}"].mount / "data"] for number in range(DATANODES)}
        self.cluster = Cluster(binary, root, datanodes=DATANODES, volumes=volumes, a=disks["a"].mount / "data",
                               b=disks["b"].mount / "data", settings={"journal": {"segment_bytes": 262144}})
        self.names, self.starts = names, collections.defaultdict(list)

    def process(self, name):
        return self.cluster.namenode if name == "namenode" else self.cluster.datanodes[number_of(name)]

    def cut(self, choose):
        """Cuts; gives the machines that must be started again, and what it was in a word."""
        kind = choose.choices(["all", "machine", "disk"], [5, 3.5, 1.5])[0]
        victims = self.names if kind == "all" else [choose.choice(self.names)]
        disks = [disk for name in victims for disk in self.disks[name]]
        if kind == "disk":
            disks = [choose.choice(disks)]
        choose.shuffle(disks)
        for disk in disks:
            disk.cut()
        if kind == "disk":
            time.sleep(choose.uniform(0, 0.5))
        for name in victims:
            self.process(name).kill()
        for name in victims:
            for disk in self.disks[name]:
                disk.again()
        return victims, f"{kind} {victims[0]}" if kind != "all" else kind

    def start(self, victims):
        """Starts what was cut; why it does not come up, if it does not."""
        began = time.monotonic()
        for name in victims:
            if name == "namenode":
                self.cluster.start_namenode()
            else:
                self.cluster.start_datanode(number_of(name))
        for name in victims:
            up = self.serves if name == "namenode" else lambda name=name: self.cluster.datanode_ready(number_of(name))
            until(lambda: up() or not self.process(name).alive(), 120, f"the start of {name}")
            if not self.process(name).alive():
                return f"{name} does not start: {self.cluster.words(name)}"
            self.starts[name.split("-")[0]].append(time.monotonic() - began)
        return None

    def serves(self):
        return b"is off" in self.cluster.admin("safemode", "get").stdout


def number_of(name):
    return int(name.split("-")[1])


def cuts(machines, load, choose, count):
    """How many cuts lost something; it ends at the first, so that what is left can be looked at."""
    for number in range(1, count + 1):
        load.resume()
        time.sleep(choose.uniform(0.1, 1.0))
        victims, what = machines.cut(choose)
        if words := machines.start(victims):
            print(f"cut {number} ({what}): {words}", flush=True)
            return 1
        load.rest()
        violations = load.check(number % EVERYTHING == 0 or number == count)
        dead = [name for name in machines.names if not machines.process(name).alive()]
        if dead and "disk" not in what:
            violations.append(f"ended by themselves: {dead}")
        if violations or number % 10 == 0 or number == count:
            print(f"cut {number} ({what}): {load.told()}: {'; '.join(violations) or 'all there'}", flush=True)
        if violations:
            return 1
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--writers", type=int, default=2, help="of each client")
    parser.add_argument("--ours-only", action="store_true", help="no stock client, and so no Java")
    parser.add_argument("--keep", action="store_true", help="leave the folder if something was lost")
    parser.add_argument("--no-sync", choices=["namenode", "datanode"],
                        help="servers of this kind sync nothing and say they did: this must be found")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    # Who is told to stop leaves no mount behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    choose, disks, hands, lost, began = random.Random(seed), {}, {}, 1, time.monotonic()
    root = pathlib.Path(tempfile.mkdtemp(prefix="steadfs-cuts-"))
    try:
        machines = Machines(arguments.binary, root, disks)
        if arguments.no_sync:
            machines.cluster.environment[arguments.no_sync] = preloaded(root, "no_sync")
        assert machines.start(machines.names) is None
        # Empty folders would be formatted again: what is lost then would say little of tests.
        run("sync")
        machines.starts.clear()
        hands["ours"] = our_hand(arguments.binary, machines.cluster.url, root, "ours")
        if not arguments.ours_only:
            hands["stock"] = stock_hand(machines.cluster.url, root, "stock")
        checker = hands["checker"] = our_hand(arguments.binary, machines.cluster.url, root, "checker")
        load = Load({name: hand for name, hand in hands.items() if name != "checker"}, checker, arguments.writers, seed)
        try:
            lost = cuts(machines, load, choose, arguments.cuts)
        except TimeoutError as error:
            print(error, flush=True)
        for name, times in machines.starts.items():
            print(f"{len(times)} starts of a {name}: {percentiles(times)}")
        print(f"{arguments.cuts} cuts in {time.monotonic() - began:.0f} s; {load.slowest()}; "
              f"refused meanwhile: {load.refusals()[:8]}")
        load.end()
        machines.cluster.stop()
    finally:
        for hand in hands.values():
            hand.kill()
        if "machines" in locals():
            machines.cluster.stop(9)
        if lost and arguments.keep:
            print(f"what is left: {root}, with its mounts", flush=True)
        else:
            for disk in disks.values():
                disk.gone()
            subprocess.run(["rm", "-rf", root], check=False)
    print("nothing was lost" if not lost else "SOMETHING WAS LOST")
    sys.exit(0 if bool(lost) == bool(arguments.no_sync) else 1)


if __name__ == "__main__":
    main()
