#!/usr/bin/env python3
"""Disks fail in every way that one machine can cause, below one of two datanodes, while files are written and read.

The datanode's two volumes are ext4 file systems on loop devices. Each step breaks one (read-only, frozen, full, cut short,
pulled out, rotten, robbed of files), and wants: writers and readers go on, the datanode says what is wrong, every block is whole again,
and the disk can be put back while the datanode runs.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

from bench import until  # noqa: E402
from cluster import Cluster  # noqa: E402

MEGABYTES = 400
FILE_BYTES = 3_000_000
SETTINGS = ("volume_check_timeout_ms=15000", "heartbeat_interval_ms=500", "scan_period_ms=2000", "compare_period_ms=2000")


def shell(*words, check=True):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True)


class Disk:
    """An ext4 file system on a loop device."""

    def __init__(self, root, name, megabytes=MEGABYTES):
        self.image, self.mount = root / f"{name}.image", root / name
        self.data = self.mount / "data"
        self.mount.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        self.make()

    def make(self):
        shell("mkfs.ext4", "-q", "-F", self.image)
        self.put_in()

    def put_in(self):
        shell("mount", "-o", "loop,errors=remount-ro", self.image, self.mount)

    def device(self):
        return shell("findmnt", "-no", "SOURCE", self.mount).stdout.strip()

    def taken_out(self):
        return shell("umount", self.mount, check=False).returncode == 0

    def clear(self):
        shell("fsfreeze", "-u", self.mount, check=False)
        shell("umount", "-l", self.mount, check=False)

    def blocks(self):
        return sorted(path for path in self.data.glob("finalized/*/*/blk_*") if "." not in path.name)


class Bench:
    def __init__(self, cluster, binary, root):
        self.binary, self.root = binary, root
        self.environment = {**os.environ, "STEADFS_URL": cluster.endpoints["hdfs"], "STEADFS_CONNECT_TIMEOUT": "60s"}
        self.endpoint = cluster.endpoints["datanodes"][0]
        self.written = {}
        self.names = 0

    def run(self, *words):
        command = [self.binary, *[str(word) for word in words]]
        return subprocess.run(command, env=self.environment, capture_output=True, timeout=120)

    def report(self):
        return json.loads(self.run("admin", "--json", "report").stdout)

    def node(self):
        nodes = self.report()["datanodes"]
        return next(node for node in nodes if node["uuid"] == self.endpoint["uuid"])

    def volume(self, disk):
        return next((volume for volume in self.node()["storages"] if volume["path"] == str(disk.data)), None)

    def failed(self, disk):
        failures = self.node()["volume_failures"]
        return next((failure["why"] for failure in failures if failure["path"] == str(disk.data)), None)

    def use(self, disks):
        config = pathlib.Path(self.endpoint["dir"]) / "config.toml"
        text = config.read_text()
        volumes = "".join(f'[[volumes]]\npath = "{disk.data}"\n' for disk in disks)
        config.write_text(text[:text.index("[[volumes]]")] + volumes)
        done = self.run("admin", "datanode", "reconfigure", self.endpoint["ipc"])
        assert done.returncode == 0, done.stderr or done.stdout
        until(lambda: {volume["path"] for volume in self.node()["storages"] if not volume["failed"]}
              == {str(disk.data) for disk in disks}, 60, "the namenode knows the volumes")

    def write(self, name, count):
        for number in range(count):
            data = random.randbytes(FILE_BYTES)
            source = self.root / "source"
            source.write_bytes(data)
            # A later round writes its files beside those of the one before.
            self.names += 1
            path = f"/{name}-{self.names}"
            done = self.run("fs", "put", source, path)
            assert done.returncode == 0, (path, number, done.stderr)
            self.written[path] = hashlib.md5(data).hexdigest()

    def read_all(self):
        for path, digest in self.written.items():
            done = self.run("fs", "cat", path)
            assert hashlib.md5(done.stdout).hexdigest() == digest, (path, done.stderr)

    def whole(self):
        def is_whole():
            report = self.report()
            return not (report["under_replicated"] or report["missing"] or report["corrupt"])

        until(is_whole, 120, "every block is whole again")
        self.read_all()


def read_only(bench, disk):
    name = os.path.basename(disk.device())
    pathlib.Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")
    bench.write("read-only", 5)
    assert "Read-only" in until(lambda: bench.failed(disk), 60, "it is told")
    bench.whole()
    until(disk.taken_out, 30, "the failed disk can be taken out")
    shell("e2fsck", "-fy", disk.image, check=False)
    disk.put_in()


def frozen(bench, disk):
    shell("fsfreeze", "-f", disk.mount)
    try:
        bench.write("frozen", 5)
        assert "not answered" in until(lambda: bench.failed(disk), 90, "it is told")
        bench.whole()
    finally:
        shell("fsfreeze", "-u", disk.mount)
    until(disk.taken_out, 30, "the failed disk can be taken out")
    disk.put_in()


def full(bench, disk):
    filler = disk.mount / "filler"
    # Not by bytes: so many to write at once make a slow disk look like one that does not answer.
    room = os.statvfs(disk.mount)
    shell("fallocate", "-l", room.f_bavail * room.f_frsize, filler, check=False)
    shell("dd", "if=/dev/zero", f"of={filler}.rest", "bs=4k", check=False)
    bench.write("full", 8)
    assert bench.failed(disk) is None, "a full disk works"
    filler.unlink()
    filler.with_name("filler.rest").unlink()
    bench.whole()


def rotten(bench, disk):
    block, before = until(lambda: rot(disk), 60, "a block to spoil")
    # Nobody reads it: the check of all replicas finds it, and it is replaced.
    until(lambda: gone(block, before), 120, "the rotten replica is gone")
    bench.whole()


def rot(disk):
    """Flips a bit of the largest block; none if there is none, or it was deleted in that moment."""
    try:
        block = max(disk.blocks(), key=lambda path: path.stat().st_size)
        with open(block, "r+b") as file:
            at = os.fstat(file.fileno()).st_size // 2
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
            return block, os.fstat(file.fileno()).st_ino
    except (ValueError, IndexError, FileNotFoundError):
        return None


def gone(block, inode):
    try:
        return block.stat().st_ino != inode
    except FileNotFoundError:
        return True


def robbed(bench, disk):
    gone = disk.blocks()[:3]
    for block in gone:
        block.unlink()
    volumes = disk.mount.parent
    until(lambda: all(any(volumes.glob(f"*/data/finalized/*/*/{block.name}")) for block in gone), 120, "they are made again")
    bench.whole()


def cut(bench, disk):
    # All but the superblock is gone: of a longer rest it is luck whether anything lies behind it.
    shrink(bench, disk, 1 << 20)


def pulled(bench, disk):
    shrink(bench, disk, 0)


def shrink(bench, disk, size):
    # If anything were written between the two, the image would be longer again.
    shell("fsfreeze", "-f", disk.mount)
    os.truncate(disk.image, size)
    shell("losetup", "--set-capacity", disk.device())
    shell("fsfreeze", "-u", disk.mount, check=False)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    bench.read_all()
    bench.write("shrunk", 5)
    until(lambda: bench.failed(disk), 120, "it is told")
    bench.whole()
    until(disk.taken_out, 30, "the failed disk can be taken out")
    os.truncate(disk.image, MEGABYTES << 20)
    disk.make()


def candidates(step, disks):
    """The disks that a step may break: only what has blocks can lose them, and after a full or a failed one all may lie on the other."""
    with_blocks = [disk for disk in disks if disk.blocks()] if step in (rotten, robbed, cut, pulled) else []
    return with_blocks or disks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    failed = 0
    with Cluster(options.binary, "--replication", "2", "--block-size", "1MiB", *settings, datanodes=2) as cluster:
        root = cluster.folder / "disks"
        root.mkdir()
        disks = [Disk(root, "a"), Disk(root, "b")]
        bench = Bench(cluster, options.binary, root)
        try:
            bench.use(disks)
            bench.write("first", 8)
            bench.whole()
            for number in range(options.rounds):
                bench_round(bench, disks, number)
        except BaseException:
            failed = 1
            print(bench.run("admin", "report").stdout.decode(), flush=True)
            raise
        finally:
            for disk in disks:
                disk.clear()
            if not failed:
                shutil.rmtree(root, ignore_errors=True)
    print("every disk fault was survived", flush=True)


def bench_round(bench, disks, number):
    for step in (read_only, frozen, full, rotten, robbed, cut, pulled):
        disk = random.choice(candidates(step, disks))
        step(bench, disk)
        # What was put in again is tried again; the other one served all the time.
        bench.use(disks)
        bench.whole()
        for path in list(bench.written)[12:]:
            bench.run("fs", "rm", path)
            del bench.written[path]
        print(f"  round {number + 1}: {step.__name__.replace('_', ' ')} on {disk.mount.name}: ok", flush=True)


if __name__ == "__main__":
    main()
