"""The two systems, started with the same settings in folders of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "conformance"))

from cluster import Cluster, Failure, wait_for  # noqa: E402
from peer import DATANODE, NAMENODE, Peer, command, compile_java, jars, write_conf  # noqa: E402

from machine import Refused, Usage  # noqa: E402

# What both have. Where a side's own default is another, it is told to have this.
SETTINGS = {
    "datanodes": 3,
    "replication": 3,
    "block_size": 128 << 20,
    "bytes_per_checksum": 512,
    "checksum": "CRC32C",
    "packet_bytes": 64 << 10,
    "journal_copies": 2,
    "audit_log": False,
    "log_level": "WARN",
    "permissions": True,
}
DURABILITY = {
    "ours": "a change is on the disk in both copies of the journal before it is answered; a block is on the disk of every "
            "datanode of its pipeline before its close is answered",
    "theirs": "a change is on the disk in both folders of edits before it is answered; a closed block is in the page cache of "
              "every datanode of its pipeline (dfs.datanode.synconclose=false, HDFS's default)",
}
HANDLERS = 32
NAMENODE_JVM = ("-Xms1g", "-Xmx2g")
DATANODE_JVM = ("-Xmx1g",)
CLIENT_JVM = ("-Xmx512m",)


def unequal(ours, theirs):
    """What the two sides differ in, as sentences."""
    return [f"{key}: {ours.get(key)} of ours, {theirs.get(key)} of theirs" for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)]


def refuse_unequal(ours, theirs):
    found = unequal(ours, theirs)
    if found:
        raise Refused("the two sides have other settings: " + "; ".join(found))


def refuse_debug(binary, bench):
    """Only what is compiled for release is compared."""
    built = json.loads(subprocess.run([bench, "build"], capture_output=True, text=True, check=True).stdout)
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    for name, debug in ((bench, built["debug_assertions"]), (binary, "debug" in told)):
        if debug:
            raise Refused(f"{name} is a debug build: cargo build --release")


class Ours(Cluster):
    """A cluster of ours, a process each node."""

    name = "ours"

    def __init__(self, binary, *options, datanodes=SETTINGS["datanodes"]):
        super().__init__(binary, "--replication", SETTINGS["replication"], "--block-size", SETTINGS["block_size"], *options,
                         datanodes=datanodes)
        self.local = self.folder / "local"
        self.options += ["--set", f"local_folder={self.local}"]

    def start(self):
        before = os.environ.get("STEADFS_LOG")
        os.environ["STEADFS_LOG"] = SETTINGS["log_level"].lower()
        try:
            super().start()
        finally:
            if before is None:
                del os.environ["STEADFS_LOG"]
            else:
                os.environ["STEADFS_LOG"] = before

    @property
    def fs(self):
        return self.url.rstrip("/")

    @property
    def address(self):
        return self.fs.removeprefix("hdfs://")

    @property
    def namenode(self):
        return Usage([self.endpoints["namenode"]["pid"]])

    @property
    def servers(self):
        return Usage([self.endpoints["namenode"]["pid"], *(node["pid"] for node in self.endpoints["datanodes"])])

    @property
    def name_folders(self):
        return [self.folder / "namenode" / "a", self.folder / "namenode" / "b"]

    def stated(self):
        """The settings that a client does not see."""
        return {"datanodes": len(self.endpoints["datanodes"]), "journal_copies": len(self.name_folders), "audit_log": False,
                "log_level": SETTINGS["log_level"]}


class Theirs(Peer):
    """Apache HDFS, a JVM each node."""

    name = "theirs"

    def __init__(self, settings=None, datanodes=SETTINGS["datanodes"]):
        super().__init__(datanodes, {"dfs.namenode.handler.count": HANDLERS, "dfs.blocksize": SETTINGS["block_size"],
                                     "dfs.namenode.safemode.extension": 0, **(settings or {})})
        self.settings["dfs.namenode.name.dir"] = ",".join(f"file://{folder}" for folder in self.name_folders)

    def conf(self, who, more=None):
        folder = super().conf(who, more)
        write_conf(folder, {**self.settings, **(more or {})}, SETTINGS["log_level"])
        return folder

    def launch(self, who, program, conf):
        options = NAMENODE_JVM if program == NAMENODE else DATANODE_JVM
        log = open(self.folder / f"{who}.log", "ab")
        self.processes[who] = subprocess.Popen(command(conf, program, options=options), stdin=subprocess.DEVNULL, stdout=log,
                                               stderr=log, cwd=self.folder, start_new_session=True)

    @property
    def fs(self):
        return self.url

    @property
    def namenode(self):
        return Usage([self.processes["namenode"].pid])

    @property
    def servers(self):
        return Usage([process.pid for process in self.processes.values()])

    @property
    def name_folders(self):
        return [self.folder / f"name-{number}" for number in range(SETTINGS["journal_copies"])]

    def stated(self):
        return {"datanodes": len(self.processes) - 1, "journal_copies": len(self.name_folders), "audit_log": False,
                "log_level": SETTINGS["log_level"]}

    def restart_namenode(self):
        """Ends the NameNode and starts it on the same folders; the datanodes stay."""
        process = self.processes.pop("namenode")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        began = time.monotonic()
        self.launch("namenode", NAMENODE, self.folder / "conf-namenode")
        return began


class JavaClient:
    """The stock client in a JVM that stays, so that what it runs is compiled."""

    def __init__(self, folder, fs):
        self.conf = write_conf(Path(folder) / f"conf-{fs.rsplit(':', 1)[1]}", {"hadoop.tmp.dir": Path(folder) / "tmp"})
        classes = compile_java([HERE.parent / "java" / "Streams.java"], Path(folder) / "classes")
        self.process = subprocess.Popen(command(self.conf, "Streams", fs, extra=[classes], options=CLIENT_JVM),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    @property
    def usage(self):
        return Usage([self.process.pid])

    def ask(self, *words):
        """Runs one command: how much was done, and in how many seconds."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            raise Failure(f"the Java client did not {words}")
        return int(answer[0]), int(answer[1]) / 1e9

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
