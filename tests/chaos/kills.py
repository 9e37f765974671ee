#!/usr/bin/env python3
"""Namenode, datanodes and clients are killed under load, and started again.

Writers work through the stock client and ours all the time. Every 20 kills they rest, and everything that was acknowledged must
be there, to the byte. At the end every block must have its replicas, and nothing may be left over.
"""

import argparse
import collections
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

from bench import Cluster, percentiles, preloaded, until
from hand import our_hand, stock_hand
from ledger import Load
from quiet import Leak, empty, settle

DATANODES = 3
CHECK = 20


class Bench:
    """A cluster, the programs that work on it, and who is killed how often."""

    def __init__(self, binary, root, choose, **more):
        self.cluster = Cluster(binary, root, datanodes=DATANODES, **more)
        self.choose, self.killed, self.starts = choose, collections.Counter(), collections.defaultdict(list)
        self.binary, self.hands, self.checker, self.load = binary, {}, None, None
        # Servers that are dead now, and when each is started again.
        self.down = {}

    def start(self, ours_only=False, writers=2):
        binary, root, choose = self.binary, self.cluster.root, self.choose
        assert self.cluster.everything(), self.cluster.words()
        until(self.serves, what="the start")
        self.hands = {"ours": our_hand(binary, self.cluster.url, root, "ours")}
        if not ours_only:
            self.hands["stock"] = stock_hand(self.cluster.url, root, "stock")
        self.checker = our_hand(binary, self.cluster.url, root, "checker")
        until(lambda: all(map(self.cluster.datanode_ready, range(DATANODES))), what="the datanodes")
        self.load = Load(self.hands, self.checker, writers, choose.randrange(1 << 60))

    def serves(self):
        return b"is off" in self.cluster.admin("safemode", "get").stdout

    def process(self, name):
        return self.cluster.namenode if name == "namenode" else self.cluster.datanodes[int(name.split("-")[1])]

    def kill_one(self, spared=()):
        """One process that runs now, unless it is spared."""
        weights = {"namenode": 6, **{f"datanode-{number}": 3 for number in range(DATANODES)}, "ours": 4, "stock": 1}
        names = [name for name in weights if name in self.hands or name not in {*self.down, *spared} and "node" in name]
        name = self.choose.choices(names, [weights[name] for name in names])[0]
        if name in self.hands:
            if self.hands[name].pid() is None:
                return None
            self.hands[name].kill()
        else:
            if not self.process(name).alive():
                raise Leak(f"{name} ended by itself: {self.cluster.words(name)}")
            self.process(name).kill()
            self.down[name] = time.monotonic() + self.choose.uniform(0, 1.5)
        self.killed[name.split("-")[0]] += 1
        return name

    def start_due(self, everything=False):
        for name, when in list(self.down.items()):
            if everything or when <= time.monotonic():
                del self.down[name]
                if name == "namenode":
                    self.cluster.start_namenode()
                else:
                    self.cluster.start_datanode(int(name.split("-")[1]))

    def all_up(self):
        """Everything is started and serves; how long the namenode takes is noted."""
        began, counts = time.monotonic(), "namenode" in self.down
        self.start_due(everything=True)
        until(lambda: self.serves() or not self.cluster.namenode.alive(), 120, "the namenode serves")
        if counts:
            self.starts["namenode"].append(time.monotonic() - began)
        for number in range(DATANODES):
            until(lambda: self.cluster.datanode_ready(number) or not self.cluster.datanodes[number].alive(), 120,
                  "the datanodes serve")
        for name in ("namenode", *(f"datanode-{number}" for number in range(DATANODES))):
            if not self.process(name).alive():
                raise Leak(f"{name} does not start: {self.cluster.words(name)}")

    def check(self, everything=False, close=False):
        """The writers rest (and close their files), and are compared with what is there."""
        self.all_up()
        self.load.rest()
        if close:
            self.load.close_all()
        if violations := self.load.check(everything):
            raise Leak("; ".join(violations))

    def finish(self):
        """The last check: all bytes, all replicas, nothing left over."""
        self.check(everything=True, close=True)
        folders = [self.cluster.root / f"datanode-{number}" for number in range(DATANODES)]
        folders = [folder for number, plain in enumerate(folders) for folder in self.cluster.volumes.get(number, [plain])]
        began = time.monotonic()
        left = settle(self.cluster, self.load, folders)
        settled = time.monotonic()
        empty(self.cluster, self.load, self.checker, folders)
        return (f"{left}, {settled - began:.0f} s after the last kill's check; all gone {time.monotonic() - settled:.0f} s after "
                "it was deleted")

    def end(self):
        if self.load:
            self.load.end()
        for hand in [*self.hands.values(), *([self.checker] if self.checker else [])]:
            hand.kill()
        self.cluster.stop(9)


def kills(bench, count):
    done = 0
    while done < count:
        bench.load.resume()
        goal = min(done + CHECK, count)
        while done < goal:
            time.sleep(bench.choose.uniform(0, 0.8))
            bench.start_due()
            done += bench.kill_one() is not None
        bench.check(everything=done % (10 * CHECK) == 0)
        print(f"{done} kills {dict(bench.killed)}: {bench.load.told()}: all there", flush=True)
    print(f"{bench.finish()}; {bench.load.slowest()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--ours-only", action="store_true", help="no stock client, and so no Java")
    parser.add_argument("--clocks", action="store_true", help="every server's time of day jumps by ten minutes and back")
    parser.add_argument("--keep", action="store_true", help="leave the folder if something was lost")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    root, began, good, bench = pathlib.Path(tempfile.mkdtemp(prefix="steadfs-kills-")), time.monotonic(), False, None
    try:
        bench = Bench(arguments.binary, root, random.Random(seed))
        if arguments.clocks:
            for phase, kind in enumerate(("namenode", "datanode")):
                bench.cluster.environment[kind] = {**preloaded(root, "clocks"), "CLOCK_PHASE": str(phase)}
        bench.start(arguments.ours_only)
        kills(bench, arguments.count)
        good = True
        for name, times in bench.starts.items():
            print(f"{len(times)} starts of a {name}: {percentiles(times)}")
    except (Leak, TimeoutError) as error:
        print(f"WRONG: {error}", flush=True)
    finally:
        if bench:
            print(f"{sum(bench.killed.values())} kills {dict(bench.killed)} in {time.monotonic() - began:.0f} s; refused "
                  f"meanwhile: {bench.load.refusals()[:10] if bench.load else None}", flush=True)
            bench.end()
        if good or not arguments.keep:
            shutil.rmtree(root, ignore_errors=True)
        else:
            print(f"what is left: {root}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
