"""Namenodes and datanodes as processes, whose files may be damaged, and a ledger of what was acknowledged."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

STARTING = 60


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(true, seconds=STARTING, what="it"):
    end = time.monotonic() + seconds
    while not (answer := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
    return answer


class Process:
    """One server. Its log is a file; what it says at its end is there."""

    def __init__(self, command, log):
        self.log = pathlib.Path(log)
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    def alive(self):
        return self.process.poll() is None

    def kill(self, how=signal.SIGKILL):
        if self.alive():
            self.process.send_signal(how)
        self.process.wait(timeout=60)


class Cluster:
    """A namenode on two folders and some datanodes below `root`. Ports stay the same over restarts."""

    def __init__(self, binary, root, datanodes=0, ports=None, **folders):
        self.binary, self.root = str(binary), pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.folders = [pathlib.Path(folders.get(name, self.root / name)) for name in ("a", "b")]
        self.port, self.http = ports or (free_port(), free_port())
        self.namenode, self.datanodes = None, [None] * datanodes
        (self.root / "namenode.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\nhttp_listen = "127.0.0.1:{self.http}"\n'
            f"data_dirs = {json.dumps([str(folder) for folder in self.folders])}\n"
            "[insecure]\nsimple = true\n[safe_mode]\nextension_ms = 0\n"
            "[datanodes]\nheartbeat_interval_ms = 200\nblock_report_interval_ms = 1000\nstale_after_ms = 5000\n"
            "dead_after_ms = 8000\n[namespace]\nmin_block_size_bytes = 65536\ndefault_block_size_bytes = 262144\n"
            "default_replication = 2\n"
            "[journal]\nsegment_bytes = 65536\nflush_distance_entries = 40\nkept_bytes = 262144\nseal_after_idle_ms = 100\n"
            "[upkeep]\nreserved_bytes = 0\ncheck_interval_ms = 100\nstore_copy_interval_ms = 300\n"
        )

    def start_namenode(self):
        command = [self.binary, "namenode", "--config", str(self.root / "namenode.toml")]
        self.namenode = Process(command, self.root / "namenode.log")

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
        folder = self.root / f"datanode-{number}"
        folder.mkdir(exist_ok=True)
        config = self.root / f"datanode-{number}.toml"
        if not config.exists():
            config.write_text(
                f'namenode = "127.0.0.1:{self.port}"\ndata_listen = "127.0.0.1:{free_port()}"\n'
                f'ipc_listen = "127.0.0.1:{free_port()}"\nhttp_listen = "127.0.0.1:{free_port()}"\n'
                f'[[volumes]]\npath = "{folder}"\n'
            )
        command = [self.binary, "datanode", "--config", str(config)]
        self.datanodes[number] = Process(command, self.root / f"datanode-{number}.log")

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
        command = ["timeout", str(seconds), self.binary, *arguments]
        environment = {**os.environ, "STEADFS_URL": f"hdfs://127.0.0.1:{self.port}", "HADOOP_USER_NAME": "root"}
        return subprocess.run(command, capture_output=True, env=environment, **more)

    def fs(self, *arguments, **more):
        return self.run("fs", *arguments, **more)

    def admin(self, *arguments, **more):
        return self.run("admin", *arguments, **more)

    def words(self):
        """The last line in which the namenode says why it ended."""
        lines = (self.root / "namenode.log").read_text(errors="replace").splitlines()
        told = [line for line in lines if line.startswith(("steadfs:", "the namenode ends:"))]
        return told[-1] if told else (lines[-1] if lines else "")


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
