"""A mount beside the local disk and beside our own client, in one run; `scripts/bench-mount` calls it.

bench_mount.py --binary STEADFS --bench STEADFS-BENCH [--rounds N] [--mebibytes N] [--files N]

One cluster of three datanodes on this machine, mounted twice: once reading what lies here by itself, once as if everything
lay elsewhere. What is compared takes turns, and what is told is medians and their ratio. As root.
"""

import argparse
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster import Cluster, Failure

FOLDER_ENTRIES = 10_000
SMALL_FILES = 4_000


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    return (f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
            f"Linux {platform.release()}; load {os.getloadavg()[0]:.1f} before")


def run(*line):
    done = subprocess.run([str(part) for part in line], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{line}: {done.stderr or done.stdout}")
    return done.stdout


def seconds(work, *arguments):
    began = time.monotonic()
    work(*arguments)
    return time.monotonic() - began


def told(what, ours, theirs):
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"{what}: {ours:.2f} beside {theirs:.2f} s, ratio of speeds {theirs / ours:.2f}", flush=True)


def list_long(folder):
    for entry in os.scandir(folder):
        entry.stat(follow_symlinks=False)


def find(folder, expected):
    found = run("find", folder, "-type", "f", "-newermt", "2000-01-01").count("\n")
    if found != expected:
        raise Failure(f"find sees {found} files of {expected} in {folder}")


def folders(mount, remote, disk, rounds):
    """`ls -l` of a large folder: what nobody has asked for yet, and once more."""
    for at in (mount / "large", disk / "large"):
        at.mkdir()
        for number in range(FOLDER_ENTRIES):
            (at / f"entry-{number}").touch()
    first = seconds(list_long, remote / "large")
    print(f"ls -l of {FOLDER_ENTRIES:,} entries that the kernel has not seen: {first:.2f} s", flush=True)
    told(f"ls -l of {FOLDER_ENTRIES:,} entries once more, beside the disk",
         *zip(*((seconds(list_long, mount / "large"), seconds(list_long, disk / "large")) for _ in range(rounds))))


def trees(bench, url, mount, disk, files, rounds):
    """`find` over many files, which other clients made."""
    run(bench, "files", "--fs", url, "--count", files)
    ours, theirs = mount / "bench-files", disk / "bench-files"
    for folder in sorted(ours.iterdir()):
        at = theirs / folder.name
        at.mkdir(parents=True)
        for number in range(1_000):
            (at / f"file-{number}").touch()
    first = seconds(find, ours, files)
    print(f"find over {files:,} files that the kernel has not seen: {first:.2f} s", flush=True)
    told(f"find over {files:,} files once more, beside the disk",
         *zip(*((seconds(find, ours, files), seconds(find, theirs, files)) for _ in range(rounds))))


def untar(mount, disk, synced, work, rounds):
    """A source tree of small files, beside the disk as it is and beside one that has every name on disk at once."""
    tree = work / "tree"
    for number in range(SMALL_FILES):
        path = tree / f"d{number % 200}" / f"file-{number}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"int x;\n" * (number % 900))
    run("tar", "cf", work / "tree.tar", "-C", work, "tree")

    def unpack(at):
        at = at / "untarred"
        at.mkdir()
        took = seconds(run, "tar", "xf", work / "tree.tar", "-C", at)
        shutil.rmtree(at)
        return took

    rows = [(unpack(mount), unpack(synced), unpack(disk)) for _ in range(rounds)]
    ours, on_synced, on_disk = zip(*rows)
    told(f"untar of {SMALL_FILES:,} small files beside ext4 with dirsync", ours, on_synced)
    told(f"untar of {SMALL_FILES:,} small files beside ext4", ours, on_disk)
    median = statistics.median(ours)
    print(f"  {SMALL_FILES / median:.0f} files a second, each durable when its close returns", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--only", choices=["bytes", "folders", "trees", "untar"], action="append")
    options = parser.parse_args()
    # So that everything is taken away when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    if Path(options.binary).parent.name == "debug":
        raise SystemExit("measure with a release build")
    version = run(options.binary, "--version").strip()
    wanted = options.only or ["bytes", "folders", "trees", "untar"]
    print(machine(), f"{version}, {options.rounds} rounds, medians", sep="\n", flush=True)
    work = Path(tempfile.mkdtemp(prefix="steadfs-bench-"))
    mount, remote, synced, disk = (work / name for name in ("mnt", "remote", "synced", "disk"))
    for at in (mount, remote, synced, disk):
        at.mkdir()
    try:
        run("truncate", "-s", "3G", work / "image")
        run("mkfs.ext4", "-q", work / "image")
        run("mount", "-o", "loop,dirsync", work / "image", synced)
        with Cluster(options.binary, "--replication", 1) as cluster:
            for at, local in ((mount, []), (remote, ["--local", work / "nothing"])):
                run(options.binary, "mount", cluster.url, at, "--staging", work / f"{at.name}-staging", "--log",
                    work / f"{at.name}.log", *local)
            if "bytes" in wanted:
                print(run(options.bench, "mount", "--fs", cluster.url, "--mount", mount, "--remote", remote, "--beside",
                          disk / "bytes", "--rounds", options.rounds, "--mebibytes", options.mebibytes), end="", flush=True)
            if "folders" in wanted:
                folders(mount, remote, disk, options.rounds)
            if "trees" in wanted:
                trees(options.bench, cluster.url, mount, disk, options.files, min(options.rounds, 3))
            if "untar" in wanted:
                untar(mount, disk, synced, work, min(options.rounds, 3))
            for at in (mount, remote):
                run(options.binary, "umount", at)
    finally:
        for at in (mount, remote):
            subprocess.run(["timeout", "20", options.binary, "umount", "--lazy", at], capture_output=True)
        subprocess.run(["umount", "--lazy", synced], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f} after", flush=True)


if __name__ == "__main__":
    main()
