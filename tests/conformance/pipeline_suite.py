"""The stock client while datanodes die, files grow, options vary and replicas rot.

pipeline_suite.py --binary STEADFS     wants PEER (scripts/setup peer)

What a write ends with is HDFS's own rule: as long as one datanode of the pipeline lives it goes on, unless the client's
policy wants a lost datanode replaced, none is to be had, and it does not call that good enough.
"""

import argparse
import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, Failure, wait_for
from peer import HERE, command, compile_java, write_conf
from suite import Suite, has, same

DATANODES = 4
BLOCK = 1 << 20
SECONDS = 60
SEEKS = 2000
POLICY = "dfs.client.block.write.replace-datanode-on-failure."
ALL_BAD = "failed java.io.IOException All datanodes ["
NO_SPARE = ("failed java.io.IOException Failed to replace a bad datanode on the existing pipeline due to no more good "
            "datanodes being available to try.")
# What a client may ask for and need not get.
HARMLESS = {
    "a domain socket": ["dfs.client.read.shortcircuit=true", "dfs.domain.socket.path={folder}/none/socket_PORT"],
    "an old reader of local files": ["dfs.client.read.shortcircuit=true", "dfs.client.use.legacy.blockreader.local=true",
                                     "dfs.domain.socket.path={folder}/none/socket_PORT"],
    "an old reader of local files, without short cuts": ["dfs.client.use.legacy.blockreader.local=true"],
    "names of datanodes": ["dfs.client.use.datanode.hostname=true"],
    "hedged reads": ["dfs.client.hedged.read.threadpool.size=5", "dfs.client.hedged.read.threshold.millis=1"],
    "cached replicas first": ["dfs.client.read.use.cache.priority=true"],
    "no connection kept": ["dfs.client.cached.conn.retry=0", "dfs.client.socketcache.capacity=0"],
    "many connections kept": ["dfs.client.cached.conn.retry=100", "dfs.client.socketcache.capacity=100"],
    "no encryption": ["dfs.encrypt.data.transfer=false"],
    "readahead and no cache": ["dfs.client.cache.readahead=0", "dfs.client.cache.drop.behind.reads=true",
                               "dfs.client.cache.drop.behind.writes=true"],
}


class Nodes:
    """The datanodes of a cluster by their uuid: they are killed, and started again on the folders they had."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.told = {node["uuid"]: (index, node) for index, node in enumerate(cluster.endpoints["datanodes"])}
        self.again = {}

    def kill(self, uuid):
        index, node = self.told[uuid]
        process = self.again.pop(uuid, None)
        if process is None:
            self.cluster.kill_datanode(index)
            # Its folder is free, and its sockets are closed, when it has ended.
            wait_for(lambda: ended(node["pid"]), SECONDS, "a killed datanode ends", 0.01)
        else:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def start(self, uuid):
        index, node = self.told[uuid]
        line = [self.cluster.binary, "datanode", "--config", f"{node['dir']}/config.toml", "--parent", str(os.getpid())]
        with open(self.cluster.folder / f"datanode-{index + 1}-again.log", "ab") as log:
            self.again[uuid] = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def check(self):
        """None of those started again has ended."""
        for uuid, process in self.again.items():
            if process.poll() is not None:
                log = self.cluster.folder / f"datanode-{self.told[uuid][0] + 1}-again.log"
                raise Failure(f"a datanode did not start again: {log.read_text()[-1000:]}")

    def stop(self):
        for process in self.again.values():
            process.terminate()
        for process in self.again.values():
            process.wait(SECONDS)


def ended(pid):
    """Whether a process is gone, or waits for nothing but to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


class Client:
    """The program `Pipeline`, which does a line at a time."""

    def __init__(self, cluster, nodes, folder):
        self.nodes = nodes
        self.killed = []
        # Of the last command that writes: bytes flushed when the last of its datanodes died, and how many died.
        self.flushed = 0
        self.died = 0
        conf = write_conf(folder / "conf", {"hadoop.tmp.dir": folder / "tmp"}, "ERROR")
        classes = compile_java([HERE / "java" / "Pipeline.java"], folder / "classes")
        self.log = open(cluster.folder / "client.log", "ab")
        line = command(conf, "org.apache.hadoop.hdfs.Pipeline", cluster.url, extra=[classes], options=["-XX:+UseSerialGC"])
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        same(self.line(), "ok")

    def line(self):
        # One answer at a time: nothing is left in the stream's buffer before it.
        if not select.select([self.process.stdout], [], [], SECONDS)[0]:
            raise Failure(f"the client gives no answer within {SECONDS} s")
        answer = self.process.stdout.readline()
        if not answer:
            raise Failure(f"the client ended with {self.process.wait()}")
        return answer.rstrip("\n")

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        while (answer := self.line()).startswith("kill "):
            *victims, flushed = answer.split()[1:]
            self.flushed = int(flushed.removeprefix("flushed="))
            self.died += len(victims)
            for uuid in victims:
                self.nodes.kill(uuid)
                self.killed.append(uuid)
            self.process.stdin.write("gone\n")
            self.process.stdin.flush()
        return answer

    def ok(self, *words):
        answer = self.ask(*words)
        if answer.split()[0] != "ok":
            raise AssertionError(f"{words}: {answer}")
        return answer.removeprefix("ok").strip()

    def live(self):
        return dict(part.split("@") for part in self.ok("live", "/").split())

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Pipeline:
    def __init__(self, cluster, nodes, client):
        self.cluster = cluster
        self.nodes = nodes
        self.client = client
        self.files = 0

    def name(self):
        self.files += 1
        return f"/pipeline/f{self.files}"

    def all_again(self):
        """Every datanode that was killed serves once more."""
        killed, self.client.killed = self.client.killed, []
        before = self.client.live()
        for uuid in killed:
            self.nodes.start(uuid)

        # Not both ports of a new process are the old ones; the namenode may not have missed the old one yet.
        def serve():
            self.nodes.check()
            now = self.client.live()
            return now.keys() == self.nodes.told.keys() and all(now[uuid] != before.get(uuid) for uuid in killed)

        wait_for(serve, SECONDS, "all datanodes serve")

    def write(self, replication, positions, policy, best_effort=False, flush=True, verb="write", more=()):
        path = self.name()
        self.client.flushed = self.client.died = 0
        answer = self.client.ask(verb, path, replication, str(flush).lower(), positions, f"{POLICY}policy={policy}",
                                 f"{POLICY}best-effort={str(best_effort).lower()}",
                                 *(POLICY + setting for setting in more))
        return path, answer

    def somebody_died(self, path, answer):
        """Else the case tells nothing of what it is for."""
        if not self.client.died:
            raise AssertionError(f"{path} ended before any of its datanodes was killed: {answer}")

    def goes_on(self, replication, positions, policy, left, **how):
        """The write ends well, and after the kill its pipeline has `left` datanodes."""
        path, answer = self.write(replication, positions, policy, **how)
        try:
            self.somebody_died(path, answer)
            same(answer, f"ok {left if how.get('flush', True) else 0}", f"{positions} of {replication}, {policy}, {how}")
        finally:
            self.all_again()

    def fails(self, replication, positions, policy, words, **how):
        """The write fails in HDFS's words, and what was flushed is there once the file is taken from its writer."""
        path, answer = self.write(replication, positions, policy, **how)
        try:
            self.somebody_died(path, answer)
            has(answer, words)
        finally:
            self.all_again()
        self.client.ok("recover", path, self.client.flushed)

    def the_only_replica_dies(self):
        for policy in ("ALWAYS", "DEFAULT", "NEVER"):
            self.fails(1, "0", policy, ALL_BAD)
        self.fails(1, "0", "ALWAYS", ALL_BAD, best_effort=True)

    def one_of_two_dies(self):
        for position in "01":
            self.goes_on(2, position, "ALWAYS", 2)
            self.goes_on(2, position, "DEFAULT", 1)
            self.goes_on(2, position, "NEVER", 1)

    def one_of_three_dies(self):
        for position in "012":
            self.goes_on(3, position, "ALWAYS", 3)
            self.goes_on(3, position, "DEFAULT", 3)
            self.goes_on(3, position, "NEVER", 2)
            self.goes_on(3, position, "DEFAULT", 2, flush=False)

    def several_of_three_die(self):
        self.goes_on(3, "0,1", "NEVER", 1)
        self.goes_on(3, "1,2", "NEVER", 1)
        self.fails(3, "0,1,2", "NEVER", ALL_BAD)

    def no_datanode_is_spare(self):
        for position in (0, DATANODES - 1):
            self.fails(DATANODES, position, "ALWAYS", NO_SPARE)
            self.goes_on(DATANODES, position, "ALWAYS", DATANODES - 1, best_effort=True)
        self.fails(DATANODES, 1, "DEFAULT", NO_SPARE)
        self.goes_on(DATANODES, 1, "DEFAULT", DATANODES - 1, best_effort=True)
        self.goes_on(DATANODES, 1, "DEFAULT", DATANODES - 1, flush=False)
        self.goes_on(DATANODES, 1, "NEVER", DATANODES - 1)

    def other_settings_of_the_policy_hold(self):
        self.goes_on(DATANODES, 1, "ALWAYS", DATANODES - 1, more=["enable=false"])
        self.goes_on(DATANODES, 1, "ALWAYS", DATANODES - 1, more=[f"min-replication={DATANODES - 1}"])
        self.fails(DATANODES, 1, "ALWAYS", NO_SPARE, more=[f"min-replication={DATANODES}"])

    def one_after_another_dies(self):
        """In one block, in the next one, and between the last byte and the close; each block keeps a replica."""
        self.goes_on(3, "0;0", "NEVER", 2)
        self.goes_on(3, "2;;0", "NEVER", 2)
        self.goes_on(2, "0;0", "ALWAYS", 2)
        self.goes_on(2, "1;;0", "ALWAYS", 2)
        for position in "012":
            self.goes_on(3, f";;;{position}", "DEFAULT", 3, flush=False)

    def a_datanode_dies_while_a_file_is_appended_to(self):
        for position in "012":
            self.goes_on(3, position, "DEFAULT", 3, verb="append")
        self.goes_on(2, "0", "NEVER", 1, verb="append")
        self.goes_on(2, "1", "ALWAYS", 2, verb="append")
        self.fails(1, "0", "DEFAULT", ALL_BAD, verb="append")
        self.fails(DATANODES, "0", "ALWAYS", NO_SPARE, verb="append")

    def a_readers_datanode_dies(self):
        try:
            self.client.ok("lose", self.name())
        finally:
            self.all_again()

    def the_spare_datanode_is_dead_too(self):
        """The namenode does not know it yet, offers it, and the client finds out."""
        for best_effort in (False, True):
            spare = sorted(self.nodes.told)[0]
            self.nodes.kill(spare)
            self.client.killed.append(spare)
            if best_effort:
                self.goes_on(3, "1", "ALWAYS", 2, best_effort=True)
            else:
                self.fails(3, "1", "ALWAYS", NO_SPARE)

    def a_growing_file_is_read_as_far_as_it_was_flushed(self):
        print("   ", self.client.ok("grow", self.name()), flush=True)

    def every_way_to_read_gives_the_same_bytes(self):
        path, length = self.name(), 3 * BLOCK + 12345
        self.client.ok("make", path, length, 3)
        self.client.ok("ways", path, length, SEEKS)

    def options_that_must_be_harmless_are(self):
        path, length = self.name(), 2 * BLOCK + 54321
        self.client.ok("make", path, length, 3)
        wrong = []
        for what, options in HARMLESS.items():
            answer = self.client.ask("ways", path, length, 40, *(word.format(folder=self.cluster.folder) for word in options))
            if not answer.startswith("ok"):
                wrong.append(f"{what}: {answer}")
        same(wrong, [])

    def replicas(self, block):
        """The files of a block on disks, by the datanode's uuid."""
        return {uuid: file for uuid, (_, node) in self.nodes.told.items()
                for file in Path(node["dir"]).glob(f"*/finalized/**/{block}")}

    def rot(self, damage):
        """Damages the replica that is told first, and reads until the namenode has had it made anew."""
        path, length = self.name(), BLOCK
        block, nodes = self.client.ok("make", path, length, 3).split(":")
        files = wait_for(lambda: len(found := self.replicas(block)) == 3 and found, SECONDS, "three replicas")
        same(sorted(files), sorted(nodes.split(",")), "datanodes")
        good = content(next(iter(files.values())))
        rotten = files[nodes.split(",")[0]]
        damage(rotten, length // 2)

        def made_anew():
            # Any of the replicas may be the one that is read; the bytes are right whichever it is.
            self.client.ok("all", path, length)
            served = self.client.ok("blocks", path).split(":")[1].split(",")
            found = self.replicas(block)
            try:
                whole = all(content(file) == good for file in found.values())
            except (FileNotFoundError, StopIteration):
                return False
            report = self.cluster.report()
            same(report["missing"], 0, "missing blocks")
            return whole and len(served) == 3 and sorted(served) == sorted(found) and report["corrupt"] == 0

        wait_for(made_anew, SECONDS, f"{rotten} is made anew")

    def a_rotten_replica_is_read_around_and_made_anew(self):
        self.rot(flip)

    def a_replica_with_rotten_checksums_is_read_around_and_made_anew(self):
        self.rot(lambda replica, _: flip(checksums(replica), 1000))

    def a_replica_cut_short_is_read_around_and_made_anew(self):
        self.rot(os.truncate)


def checksums(replica):
    """The file beside a replica that holds its checksums."""
    return next(replica.parent.glob(f"{replica.name}_*.meta"))


def content(replica):
    return replica.read_bytes(), checksums(replica).read_bytes()


def flip(file, at):
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    arguments = parser.parse_args()
    suite = Suite()
    with (tempfile.TemporaryDirectory() as folder,
          Cluster(arguments.binary, "--set", "host_name=localhost", datanodes=DATANODES) as cluster):
        nodes = Nodes(cluster)
        client = Client(cluster, nodes, Path(folder))
        try:
            pipeline = Pipeline(cluster, nodes, client)
            for check in (pipeline.every_way_to_read_gives_the_same_bytes, pipeline.options_that_must_be_harmless_are,
                          pipeline.a_growing_file_is_read_as_far_as_it_was_flushed,
                          pipeline.a_rotten_replica_is_read_around_and_made_anew,
                          pipeline.a_replica_with_rotten_checksums_is_read_around_and_made_anew,
                          pipeline.a_replica_cut_short_is_read_around_and_made_anew, pipeline.the_only_replica_dies,
                          pipeline.one_of_two_dies, pipeline.one_of_three_dies, pipeline.several_of_three_die,
                          pipeline.no_datanode_is_spare, pipeline.other_settings_of_the_policy_hold,
                          pipeline.the_spare_datanode_is_dead_too, pipeline.one_after_another_dies,
                          pipeline.a_datanode_dies_while_a_file_is_appended_to, pipeline.a_readers_datanode_dies):
                suite.check(check.__name__, check)
        finally:
            client.close()
            nodes.stop()
    suite.end()


if __name__ == "__main__":
    main()
