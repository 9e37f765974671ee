"""Calls a second of the namenode beside those of Apache HDFS, in one run; `scripts/bench-calls` calls it.

bench_calls.py --binary STEADFS --bench STEADFS-BENCH [--rounds N] [--seconds N]

Both servers run all the time, each with one datanode, on the same disk; rounds alternate between them, and what is told
is the median of the rounds after a first one, which is not counted. One call is outstanding on a connection. Both have a
change on disk before they answer it.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, Failure
from peer import Peer, Tools, jars

OPERATIONS = ("stat", "open", "list", "create")
CONNECTIONS = (16, 64)
FILES = 100
FOLDER = "/bench-calls"
HANDLERS = 32
# A namenode's JVM as its users would have it, with room to compile.
JVM = ("-Xms1g", "-Xmx2g")
TOLD = re.compile(r"([\d.]+) calls/s, p50 ([\d.]+)(\S+), p99 ([\d.]+)(\S+)")
MICROSECONDS = {"ns": 0.001, "µs": 1, "ms": 1_000, "s": 1_000_000}


def measure(bench, url, operation, connections, seconds, folder):
    """Calls a second, and microseconds of the median call and of the slow one."""
    done = subprocess.run([bench, "calls", "--fs", url, "--op", operation, "--connections", str(connections), "--seconds",
                           str(seconds), "--folder", folder], capture_output=True, text=True)
    told = TOLD.search(done.stdout)
    if not told:
        raise Failure(f"{url}: {done.stderr or done.stdout}")
    return float(told[1]), float(told[2]) * MICROSECONDS[told[3]], float(told[4]) * MICROSECONDS[told[5]]


def fill(tools, url):
    """Files of one block each, so that an open has something to tell."""
    with tempfile.TemporaryDirectory() as local:
        for number in range(FILES):
            (Path(local) / f"f{number}").write_bytes(b"content of a small file\n" * 40)
        tools.shell(url, "-mkdir", "-p", FOLDER)
        tools.shell(url, "-D", "dfs.replication=1", "-put", *(f"{local}/f{number}" for number in range(FILES)), FOLDER)


def measure_create(tools, bench, url, connections, seconds):
    """In a folder of its own, which goes afterwards: a folder holds a million entries at most."""
    folder = f"{FOLDER}-new"
    tools.shell(url, "-mkdir", folder)
    result = measure(bench, url, "create", connections, seconds, folder)
    tools.shell(url, "-rm", "-r", "-skipTrash", folder)
    return result


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()[0]
    load = os.getloadavg()[0]
    return (f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
            f"Linux {platform.release()}; {java}; load {load:.1f} before")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    hadoop = next(jars().glob("lib/hadoop-hdfs-client-*.jar")).stem.removeprefix("hadoop-hdfs-client-")
    version = subprocess.run([options.binary, "--version"], capture_output=True, text=True).stdout.strip()
    print(machine(), f"{version} and Apache HDFS {hadoop}, {HANDLERS} handlers; {options.rounds} rounds of "
          f"{options.seconds} s, medians", sep="\n", flush=True)
    with Cluster(options.binary, datanodes=1) as cluster, \
            Peer(1, {"dfs.namenode.handler.count": HANDLERS}, JVM) as peer, Tools(cluster.folder) as tools:
        servers = {"ours": cluster.url.rstrip("/"), "theirs": peer.url}
        for url in servers.values():
            fill(tools, url)
        print(f"\n{'':18}{'SteadFS':>36}{'Apache HDFS':>36}\n{'call, connections':18}" +
              f"{'calls/s':>12}{'p50 µs':>12}{'p99 µs':>12}" * 2 + f"{'ratio':>8}", flush=True)
        for operation in OPERATIONS:
            for connections in CONNECTIONS:
                found = {name: [] for name in servers}
                for number in range(options.rounds + 1):
                    # Who comes first changes, so that neither always follows the other's garbage.
                    for name in sorted(servers, reverse=bool(number % 2)):
                        if operation == "create":
                            result = measure_create(tools, options.bench, servers[name], connections, options.seconds)
                        else:
                            result = measure(options.bench, servers[name], operation, connections, options.seconds, FOLDER)
                        found[name] += [result] if number else []
                rows = {name: [statistics.median(column) for column in zip(*found[name])] for name in servers}
                cells = "".join(f"{value:12,.0f}" for name in servers for value in rows[name])
                print(f"{operation + ', ' + str(connections):18}{cells}{rows['ours'][0] / rows['theirs'][0]:8.2f}", flush=True)


main()
