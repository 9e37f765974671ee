"""What a stock inotify stream tells: the same of ours as of Apache HDFS, operation by operation.

inotify_suite.py --binary STEADFS [--jars FOLDER]...     wants PEER (scripts/setup peer)

Each --jars is a Hadoop client of another version, whose stream follows ours too.
"""

import argparse
import difflib
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster
from peer import HERE, Peer, command, compile_java, write_conf
from suite import Suite, has

SECONDS = 300


def alike(found, expected, what):
    """Fails with the lines that differ."""
    lines = list(difflib.unified_diff(expected.splitlines(), found.splitlines(), "expected", "found", lineterm="", n=1))
    if lines:
        raise AssertionError(what + ":\n" + "\n".join(lines))


class Followers:
    """The program `Inotify`, with the classes of one Hadoop client."""

    def __init__(self, folder):
        self.conf = write_conf(folder / "conf", {"hadoop.tmp.dir": folder / "tmp"}, "ERROR")
        self.classes = compile_java([HERE / "java" / "Inotify.java"], folder / "classes")

    def run(self, url, *words, jars=None):
        line = command(self.conf, "Inotify", url, *words, extra=[self.classes], lib=jars)
        done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise AssertionError(f"Inotify {' '.join(map(str, words))}: {done.stderr[-2000:]}")
        return done.stdout


class Inotify:
    def __init__(self, followers, cluster, peer, jars):
        self.followers = followers
        self.cluster = cluster
        self.url = cluster.endpoints["hdfs"]
        self.peer = peer
        self.jars = jars

    def every_operation_is_told_as_apache_hdfs_tells_it(self):
        theirs = self.followers.run(self.peer.url, "follow")
        for part in ("# concat", "metadata XATTRS", "truncate /inotify/t 10"):
            has(theirs, part)
        alike(self.followers.run(self.url, "follow"), theirs, "what is told")

    def other_clients_follow(self):
        told = self.followers.run(self.url, "follow")
        for jars in self.jars:
            alike(self.followers.run(self.url, "follow", jars=jars), told, f"what {jars} is told")

    def what_happened_is_told_after_a_restart(self):
        newest = int(self.followers.run(self.url, "now"))
        before = self.followers.run(self.url, "from", 0)
        for part in (" /inotify/f2 ", "metadata ACLS", "close /inotify/c0 -1"):
            has(before, part)
        if "missing" in before:
            raise AssertionError(f"something is missing: {before[:1000]}")
        self.cluster.stop()
        (self.cluster.folder / "endpoints.json").unlink(missing_ok=True)
        self.cluster.start()
        self.url = self.cluster.endpoints["hdfs"]
        after = self.followers.run(self.url, "from", 0)
        told = [line for line in after.splitlines() if int(line.split()[0]) <= newest]
        alike("\n".join(told), before, "what is told after a restart")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--jars", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        followers = Followers(Path(folder))
        # Both keep access times to the millisecond, and take small files to join.
        settings = {"dfs.namenode.acls.enabled": "true", "dfs.namenode.accesstime.precision": 1}
        options = ("--set", "access_time_precision_ms=1")
        with Peer(settings=settings) as peer, Cluster(arguments.binary, *options, datanodes=1) as cluster:
            suite = Suite()
            inotify = Inotify(followers, cluster, peer, arguments.jars)
            for check in (inotify.every_operation_is_told_as_apache_hdfs_tells_it, inotify.other_clients_follow,
                          inotify.what_happened_is_told_after_a_restart):
                suite.check(check.__name__, check)
        suite.end()


if __name__ == "__main__":
    main()
