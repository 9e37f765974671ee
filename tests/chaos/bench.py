"""Namenodes and datanodes as processes, whose files may be damaged, and a ledger of what was acknowledged."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from patience import stretched

STARTING = 60


GIVEN = set()


def free_port():
    """
    One that is free, and stays so while its server is dead: none that this machine gives to connections, and none that was
    given before.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN:
                GIVEN.add(port)
                return port


def until(true, seconds=STARTING, what="it"):
    seconds = stretched(seconds)
    end = time.monotonic() + seconds
    while not (answer := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return answer


class Process:
    """One server. Its log is a file; what it says at its end is there."""

    def __init__(self, command, log, environment=None):
        self.log = pathlib.Path(log)
        environment = {**os.environ, "RUST_BACKTRACE": "0", **(environment or {})}
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    def alive(self):
        return self.process.poll() is None

    def kill(self, how=signal.SIGKILL):
        if self.alive():
            self.process.send_signal(how)
        self.process.wait(timeout=stretched(60))


SETTINGS = {
    "insecure": {"simple": True},
    "safe_mode": {"extension_ms": 0},
    "datanodes": {"heartbeat_interval_ms": 200, "block_report_interval_ms": 1000, "stale_after_ms": 5000,
                  "dead_after_ms": 8000},
    "namespace": {"min_block_size_bytes": 65536, "default_block_size_bytes": 262144, "default_replication": 2},
    "journal": {"segment_bytes": 65536, "flush_distance_entries": 40, "kept_bytes": 262144, "seal_after_idle_ms": 100},
    "upkeep": {"reserved_bytes": 0, "check_interval_ms": 100, "store_copy_interval_ms": 300},
}


def toml(sections):
    """Sections of plain values as TOML; what JSON writes of these TOML reads."""
    return "".join(f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
                   for name, keys in sections.items())


class Cluster:
    """
    A namenode on two folders and some datanodes below `root`. Ports stay the same over restarts. `settings` (sections of
    keys) go over those that make a small cluster quick; `volumes` are folders of a datanode, by its number, and
    `datanode_settings` keys for each of them.
    """

    def __init__(self, binary, root, datanodes=0, ports=None, settings=None, volumes=None, datanode_settings=None, **folders):
        self.binary, self.root = str(binary), pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.folders = [pathlib.Path(folders.get(name, self.root / name)) for name in ("a", "b")]
        self.port, self.http = ports or (free_port(), free_port())
        self.namenode, self.datanodes = None, [None] * datanodes
        self.volumes, self.datanode_settings = volumes or {}, datanode_settings or {}
        self.web, self.ipc = {}, {}
        # What servers get beside what this program has, by the kind of server.
        self.environment = {}
        sections = {name: {**keys, **(settings or {}).get(name, {})} for name, keys in SETTINGS.items()}
        sections.update({name: keys for name, keys in (settings or {}).items() if name not in sections})
        (self.root / "namenode.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\nhttp_listen = "127.0.0.1:{self.http}"\n'
            f"data_dirs = {json.dumps([str(folder) for folder in self.folders])}\n" + toml(sections)
        )

    def start_namenode(self):
        command = [self.binary, "namenode", "--config", str(self.root / "namenode.toml")]
        self.namenode = Process(command, self.root / "namenode.log", self.environment.get("namenode"))

    def serves(self):
        return self.admin("safemode", "get").returncode == 0

    def up(self):
        """Starts the namenode; true once it serves, false once it has ended."""
        self.start_namenode()
        until(lambda: not self.namenode.alive() or self.serves(), what="the namenode's start")
        return self.namenode.alive()

    def leave_safe_mode(self):
        # One that waits for datanodes which are not there would wait for ever.
        until(lambda: self.admin("safemode", "leave").returncode == 0, what="leaving safe mode")

    def start_datanode(self, number):
        folders = [pathlib.Path(folder) for folder in self.volumes.get(number, [self.root / f"datanode-{number}"])]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        config = self.root / f"datanode-{number}.toml"
        if not config.exists():
            self.web[number], self.ipc[number] = free_port(), free_port()
            config.write_text(
                f'namenode = "127.0.0.1:{self.port}"\ndata_listen = "127.0.0.1:{free_port()}"\n'
                f'ipc_listen = "127.0.0.1:{self.ipc[number]}"\nhttp_listen = "127.0.0.1:{self.web[number]}"\n'
                f"local_folder = {json.dumps(str(self.root / f'local-{number}'))}\n"
                + "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.datanode_settings.items())
                + "".join(f'[[volumes]]\npath = "{folder}"\n' for folder in folders)
            )
        command = [self.binary, "datanode", "--config", str(config)]
        log = self.root / f"datanode-{number}.log"
        self.datanodes[number] = Process(command, log, self.environment.get("datanode"))

    def datanode_ready(self, number):
        """Whether the namenode knows it, in this life of it."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web[number]}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    @property
    def url(self):
        return f"hdfs://127.0.0.1:{self.port}"

    def report(self):
        """What `admin report` tells; none if the namenode does not answer."""
        told = self.run("admin", "--json", "report").stdout
        return json.loads(told) if told.strip() else None

    def everything(self):
        if not self.up():
            return False
        for number in range(len(self.datanodes)):
            self.start_datanode(number)
        return True

    def stop(self, how=signal.SIGTERM):
        for process in [*self.datanodes, self.namenode]:
            if process:
                process.kill(how)

    def run(self, *arguments, seconds=30, **more):
        command = ["timeout", str(stretched(seconds)), self.binary, *arguments]
        environment = {**os.environ, "STEADFS_URL": self.url, "HADOOP_USER_NAME": "root"}
        return subprocess.run(command, capture_output=True, env=environment, **more)

    def fs(self, *arguments, **more):
        return self.run("fs", *arguments, **more)

    def admin(self, *arguments, **more):
        return self.run("admin", *arguments, **more)

    def words(self, name="namenode"):
        """The last line in which a process says why it ended."""
        lines = (self.root / f"{name}.log").read_text(errors="replace").splitlines()
        told = [line for line in lines if line.startswith(("steadfs:", f"the {name.split('-')[0]} ends:"))]
        return told[-1] if told else (lines[-1] if lines else "")


def preloaded(root, name):
    """The environment that loads `name`.c of this folder into a server."""
    library = pathlib.Path(root) / f"{name}.so"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


def percentiles(times):
    """Seconds, for a person."""
    times = sorted(times)
    at = [times[min(len(times) - 1, len(times) * percent // 100)] for percent in (50, 99)]
    return f"p50 {at[0]:.2f} s, p99 {at[1]:.2f} s, at most {times[-1]:.2f} s"


class Ledger:
    """What was acknowledged: folders, and files with the hash of their bytes."""

    def __init__(self):
        self.folders, self.files = set(), {}

    def mkdir(self, cluster, path):
        done = cluster.fs("mkdir", "-p", path)
        if done.returncode == 0:
            self.folders.add(path)
        return done.returncode == 0

    def put(self, cluster, path, data):
        done = cluster.fs("put", "-q", "-", path, input=data)
        if done.returncode == 0:
            self.files[path] = hashlib.sha256(data).hexdigest()
        return done.returncode == 0

    def lost_names(self, cluster):
        """Names that are not there any more."""
        listing = cluster.fs("ls", "-R", "--json", "/")
        if listing.returncode != 0:
            return [listing.stderr.decode(errors="replace").strip()]
        there = {json.loads(line)["path"] for line in listing.stdout.splitlines()}
        return sorted((self.folders | set(self.files)) - there)

    def bad_files(self, cluster):
        """Files that do not read as they were written: (those with wrong bytes, those that cannot be read)."""
        wrong, unread = [], []
        for path, digest in self.files.items():
            read = cluster.fs("cat", path)
            if read.returncode != 0:
                unread.append(path)
            elif hashlib.sha256(read.stdout).hexdigest() != digest:
                wrong.append(path)
        return wrong, unread


def copy_tree(source, target):
    shutil.copytree(source, target, symlinks=True)


def drop_page_cache():
    subprocess.run(["sync"], check=False)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
