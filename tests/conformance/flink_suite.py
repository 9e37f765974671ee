"""Flink's recoverable writer and file system: its own tests, and a sink that is killed and goes on.

flink_suite.py --binary STEADFS      FLINK and PEER name the folders of jars of `scripts/setup flink`
"""

import argparse
import os
import subprocess
from pathlib import Path

import peer
from cluster import Cluster, wait_for
from suite import Suite, has, same

HERE = Path(__file__).resolve().parent
# Those of Flink's test classes that use a cluster, which they are given, and those that need none but read or write.
TESTS = [f"org.apache.flink.runtime.fs.hdfs.{name}" for name in (
    "HadoopRecoverableWriterTest", "HdfsBehaviorTest", "HadoopDataInputStreamTest", "HadoopRecoverableFsDataOutputStreamTest",
    "HdfsKindTest", "HadoopFsFactoryTest", "LimitedConnectionsConfigurationTest")]
SECONDS = 120
LINES = 1_000_500


class World:
    def __init__(self, cluster):
        self.cluster = cluster
        jars = f"{os.environ['FLINK']}/*"
        self.conf = peer.write_conf(cluster.folder / "conf-flink", {"hadoop.tmp.dir": cluster.folder / "tmp"}, "ERROR")
        self.tests = peer.compile_java(sorted((HERE / "hadoop-tests").glob("java/**/*.java")), cluster.folder / "tests",
                                       tests=True)
        self.own = peer.compile_java([HERE / "flink" / "FlinkWriter.java"], cluster.folder / "writer", extra=[jars])
        # Its JUnit is newer than Hadoop's and must come first.
        self.class_path = [jars, self.own, self.tests]

    def start(self, *arguments):
        command = peer.command(self.conf, "FlinkWriter", *arguments, extra=self.class_path)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, *arguments):
        process = self.start(*arguments)
        told = process.communicate(timeout=SECONDS)[0]
        same(process.returncode, 0, f"{arguments[0]}: {told[-2000:]}")


def own_tests(suite, world):
    """Each of Flink's tests is one of ours; what they take for Hadoop's MiniDFSCluster is the cluster here."""
    properties = {"steadfs.rpc": world.cluster.url.removeprefix("hdfs://").strip("/"),
                  "steadfs.http": world.cluster.http.removeprefix("http://").strip("/")}
    options = [*peer.SHORT, *(f"-D{key}={value}" for key, value in properties.items())]
    done = subprocess.run(peer.command(world.conf, "steadfs.Run", *TESTS, tests=True, extra=world.class_path, options=options),
                          capture_output=True, text=True, timeout=SECONDS, cwd=world.cluster.folder)
    outcomes = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]

    def judge(outcome):
        if outcome.startswith("failed"):
            raise AssertionError(outcome)

    for name, test, outcome in outcomes:
        suite.check(f"Flink {name.rsplit('.', 1)[-1]} {test}", judge, outcome)
    suite.check("Flink every class was run", same, sorted({name for name, *_ in outcomes}), sorted(TESTS), done.stderr[-2000:])


def killed_sink(world):
    """A sink is killed, goes on from its checkpoint, is killed before it commits, and commits after that."""
    file = f"{world.cluster.url.rstrip('/')}/sink/part-0"
    state = world.cluster.folder / "state"
    writer = world.start("write", file, state)
    wait_for(lambda: lines(state) >= 5000 or writer.poll() is not None, SECONDS, "checkpoints of the sink")
    writer.kill()
    writer.wait()
    began = lines(state)
    same(5000 <= began < LINES - 3000, True, "lines of the first life")
    # A second life that is killed as well: it recovers and writes, and what it did after the checkpoint is cut again.
    world.finish("resume", file, state, began + 2_500)
    (state.parent / "state.commit").unlink()
    world.finish("resume", file, state, LINES)
    has(world.cluster.run("fs", "ls", "-R", "/sink").stdout, ".part-0.inprogress")
    world.finish("commit", file, state)
    expected = "".join(f"line {number:010}\n" for number in range(LINES))
    same(world.cluster.run("fs", "cat", "/sink/part-0").stdout == expected, True, "nothing is lost and nothing doubled")
    same("inprogress" in world.cluster.run("fs", "ls", "-R", "/sink").stdout, False, "something is left behind")


def lines(state):
    return int.from_bytes(state.read_bytes()[:8]) if state.exists() else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    suite = Suite()
    with Cluster(options.binary, "--min-block-size", "1") as cluster:
        world = World(cluster)
        suite.check("Flink killed_sink", killed_sink, world)
        own_tests(suite, world)
    suite.end()


main()
