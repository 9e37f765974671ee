"""Programs work on a mount while what is beneath it is killed: the mount's servers, the datanodes, the namenode.

`fio` with verification, tar in and out, find, a reader with open files and a writer who syncs go on through every kill. No
program may see an error, no byte may be wrong, and the mount answers again by itself; how soon is printed.

    kills_suite.py --binary BINARY [--kills N] [--restarts N] [--seconds-between S]

As root, with /dev/fuse and fio.
"""

import argparse
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cluster import Cluster, Failure, wait_for
from suite import Suite

# How long a call may wait for the next server, or for a node that is started again.
ANSWER_SECONDS = 60
# How long programs may need to come to an end once they are told to.
END_SECONDS = 240
MIB = 1 << 20
# One kill in so many is of the holder.
HOLDER_EVERY = 10
# What the mount's log says in any case.
USUAL = ["another one takes over", "a former server of the mount", "a block cannot be begun", "a replica cannot be read"]


def content(seed, length):
    """Bytes that nothing else has."""
    return random.Random(seed).randbytes(length)


class Mount:
    """A cluster whose processes are killed and started one by one, and a mount of it."""

    def __init__(self, binary):
        # A copy: the program may be built anew meanwhile.
        self.folder = Path(tempfile.mkdtemp(prefix="steadfs-kills-"))
        self.binary = shutil.copy2(binary, self.folder / "steadfs")
        self.at = self.folder / "mnt"
        self.log = self.folder / "mount.log"
        self.nodes = {}

    def __enter__(self):
        self.at.mkdir()
        # Its configuration, with ports that stay, is made by a start in which nothing happens.
        with Cluster(self.binary, "--block-size", "4MiB", keep=True) as cluster:
            self.cluster = cluster.folder
            self.url = cluster.url
            cluster.stop()
        for name in ["namenode", "datanode-1", "datanode-2", "datanode-3"]:
            self.start(name)
        try:
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def mount(self):
        line = ["mount", self.url, self.at, "--staging", self.folder / "staging", "--log", self.log,
                "--block-size", "4MiB", "--allow-other"]
        wait_for(lambda: self.live() == 3, 60, "three datanodes")
        done = self.steadfs(*line)
        if done.returncode != 0:
            raise Failure(f"mounting: {done.stderr}")

    def live(self):
        told = self.steadfs("admin", "report", "--json", "--fs", self.url).stdout
        return sum(node["live"] for node in json.loads(told)["datanodes"]) if told.strip() else 0

    def steadfs(self, *arguments):
        return subprocess.run(["timeout", "-k", "5", "60", self.binary, *map(str, arguments)], text=True,
                              capture_output=True)

    def start(self, name):
        config = self.cluster / name / "config.toml"
        with open(self.cluster / f"{name}.again.log", "ab") as log:
            self.nodes[name] = subprocess.Popen([self.binary, name.split("-")[0], "--config", config],
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, name):
        self.nodes[name].kill()
        self.nodes[name].wait()

    def process(self, role):
        """The process that answers for the mount now ("server"), or holds it ("holder"); none while the next has not begun."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    line = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if os.fsencode(role) in line and os.fsencode(self.at) in line:
                    return int(entry.name)
        return None

    def another(self, role, than):
        """Waits for a process of the mount that is not the one that there was."""
        def found():
            process = self.process(role)
            return process if process != than else None
        return wait_for(found, ANSWER_SECONDS, f"another {role} runs", pause=0.01)

    def __exit__(self, kind, error, trace):
        self.steadfs("umount", "--lazy", self.at)
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
        if kind is None:
            shutil.rmtree(self.cluster, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"what is left: {self.folder}, {self.cluster}", flush=True)


class Programs:
    """Processes that work on the mount until they are told to stop. Each ends with 0, or says what was wrong."""

    NAMES = ["fio", "tar", "find", "read", "write"]

    def __init__(self, mount):
        self.mount = mount
        self.stop = mount.folder / f"stop-{time.monotonic_ns()}"
        self.work = mount.at / self.stop.name
        self.work.mkdir()
        self.running = {}
        for name in self.NAMES:
            (self.work / name).mkdir()
            out = open(mount.folder / f"{self.stop.name}-{name}.out", "w+")
            line = [sys.executable, __file__, "--program", name, self.work / name, self.stop]
            self.running[name] = (subprocess.Popen(line, stdout=out, stderr=out, start_new_session=True), out)

    def broken(self):
        """Programs that ended though nobody told them to."""
        return [name for name, (process, _) in self.running.items() if process.poll() is not None]

    def end(self):
        """Tells them to stop; gives what each says of itself."""
        self.stop.touch()
        said, wrong = {}, []
        for name, (process, out) in self.running.items():
            try:
                status = process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = "does not end"
            out.seek(0)
            text = out.read()
            said[name] = text.strip().splitlines()[-1] if text.strip() else ""
            if status != 0:
                wrong.append(f"{name} ({status}): {text[-1500:]}")
        if wrong:
            raise Failure("\n".join(wrong))
        return said


# What follows runs as a process of its own: (folder in the mount, whether to stop).


def program_fio(at, stopped):
    rounds = 0
    shapes = [["--rw=randwrite", "--bs=4k", "--size=2M"], ["--rw=write", "--bs=256k", "--size=24M"],
              ["--rw=randwrite", "--bs=4k", "--size=2M", "--ioengine=mmap"]]
    while not stopped():
        shape = shapes[rounds % len(shapes)]
        subprocess.run(["fio", "--name=v", f"--directory={at}", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                        "--end_fsync=1", "--verify_state_save=0", "--output-format=terse", *shape], check=True,
                       stdout=subprocess.PIPE, cwd="/")
        rounds += 1
    return f"{rounds} rounds"


def program_tar(at, stopped):
    rounds = 0
    with tempfile.TemporaryDirectory() as here:
        tree = Path(here, "tree")
        for number in range(60):
            file = tree / f"d{number % 7}" / f"f{number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content(f"tar {number}", number * 997 % 60_000))
        subprocess.run(["tar", "cf", f"{here}/in.tar", "-C", here, "tree"], check=True)
        while not stopped():
            subprocess.run(["tar", "xf", f"{here}/in.tar", "-C", at], check=True)
            subprocess.run(["tar", "cf", f"{at}/out.tar", "-C", at, "tree"], check=True)
            subprocess.run(["diff", "-r", tree, f"{at}/tree"], check=True)
            subprocess.run(["tar", "xf", f"{at}/out.tar", "-C", here, "--transform=s/^tree/back/"], check=True)
            subprocess.run(["diff", "-r", tree, f"{here}/back"], check=True)
            subprocess.run(["rm", "-r", f"{at}/tree", f"{at}/out.tar", f"{here}/back"], check=True)
            rounds += 1
    return f"{rounds} rounds"


def program_find(at, stopped):
    rounds, expected = 0, set()
    for folder in range(20):
        Path(at, f"d{folder}").mkdir()
        for file in range(15):
            path = Path(at, f"d{folder}", f"f{file}")
            path.write_text(str(file))
            expected.add(str(path))
    while not stopped():
        found = subprocess.run(["find", at, "-type", "f", "-size", "1"], check=True, capture_output=True, text=True)
        assert set(found.stdout.splitlines()) == expected, "find misses files"
        assert subprocess.run(["grep", "-rlx", "7", at], check=True, capture_output=True, text=True).stdout.count("\n") == 20
        rounds += 1
    return f"{rounds} rounds"


def program_read(at, stopped):
    """Files stay open all the time: one that lies in one block, and one of several."""
    rounds, files = 0, []
    for name, length in [("one", 12 * MIB), ("several", 40 * MIB)]:
        expected = content(name, length)
        Path(at, name).write_bytes(expected)
        files.append((open(Path(at, name), "rb", buffering=0), expected))
    mapped = [mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file, _ in files]
    while not stopped():
        for (file, expected), pages in zip(files, mapped):
            start = random.randrange(len(expected))
            length = random.randrange(1, 300_000)
            got = os.pread(file.fileno(), length, start)
            assert got == expected[start:start + length], f"wrong bytes at {start}"
            assert pages[start:start + 5_000] == expected[start:start + 5_000], f"wrong pages at {start}"
            # What the kernel keeps is given back, so that the server is asked.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if rounds % 50 == 0:
            for file, expected in files:
                with open(file.name, "rb") as again:
                    assert hashlib.sha256(again.read()).digest() == hashlib.sha256(expected).digest(), "wrong bytes"
        rounds += 1
    return f"{rounds} reads of each"


def program_write(at, stopped):
    """Lines are appended to a file that stays open, and synced; then all of them must be there."""
    rounds, lines = 0, 0
    while not stopped():
        path = Path(at, f"log{rounds}")
        with open(path, "wb", buffering=0) as log:
            for number in range(400):
                line = b"%d %s\n" % (number, content(f"line {number}", 500).hex().encode())
                assert log.write(line) == len(line)
                if number % 40 == 0:
                    os.fsync(log.fileno())
                    assert os.stat(path).st_size >= number, "synced bytes do not show"
                time.sleep(0.002)
        expected = b"".join(b"%d %s\n" % (n, content(f"line {n}", 500).hex().encode()) for n in range(400))
        assert path.read_bytes() == expected, "lines are lost"
        os.rename(path, Path(at, "done"))
        rounds, lines = rounds + 1, lines + 400
    return f"{lines} lines"


def percentile(times, percent):
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


def answered(mount):
    """Seconds until the mount answers a call that no cache can answer."""
    began, done = time.monotonic(), []

    def ask():
        os.statvfs(mount.at)
        done.append(time.monotonic() - began)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    if not done:
        raise Failure(f"no answer within {ANSWER_SECONDS} s")
    return done[0]


def killed_servers(mount, kills, between):
    """The mount's server, and now and then its holder, is killed again and again, at random moments."""
    programs, times, holders = Programs(mount), [], 0
    try:
        for number in range(kills):
            time.sleep(random.uniform(0, 2 * between))
            server = mount.another("server", None)
            if number % HOLDER_EVERY == HOLDER_EVERY - 1:
                holder, holders = mount.another("holder", None), holders + 1
                os.kill(holder, signal.SIGKILL)
                times.append(answered(mount))
                # Both at one moment is what no mount outlives.
                mount.another("holder", holder)
                mount.another("server", server)
            else:
                os.kill(server, signal.SIGKILL)
            times.append(answered(mount))
            if programs.broken():
                raise Failure(f"after {number + 1} kills {programs.broken()} ended")
    finally:
        said = programs.end()
    print(f"    {kills} kills, {holders} of them of the holder: answers again after p50 {percentile(times, 50):.3f} s, p99 {percentile(times, 99):.3f} s, "
          f"at most {max(times):.3f} s; {said}", flush=True)


def killed_nodes(mount, restarts):
    """Datanodes, one at a time, and the namenode are killed and started again: everything waits and goes on."""
    programs = Programs(mount)
    try:
        for number in range(restarts):
            name = "namenode" if number % 3 == 2 else f"datanode-{random.randrange(3) + 1}"
            time.sleep(random.uniform(0.5, 2))
            mount.kill(name)
            time.sleep(random.uniform(0.2, 3))
            mount.start(name)
            # The next one goes only when this one is there again.
            wait_for(lambda: mount.live() == 3, ANSWER_SECONDS, f"{name} is back", pause=0.5)
            answered(mount)
            if programs.broken():
                raise Failure(f"after {number + 1} restarts, of {name} last, {programs.broken()} ended")
    finally:
        said = programs.end()
    print(f"    {restarts} restarts: {said}", flush=True)


def main():
    if sys.argv[1:2] == ["--program"]:
        name, at, stop = sys.argv[2:]
        print(globals()[f"program_{name}"](at, lambda: os.path.exists(stop)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=12)
    parser.add_argument("--seconds-between", type=float, default=0.5)
    options = parser.parse_args()
    suite = Suite()
    with Mount(options.binary) as mount:
        if options.kills:
            suite.check("killed_servers", killed_servers, mount, options.kills, options.seconds_between)
        if options.restarts:
            suite.check("killed_nodes", killed_nodes, mount, options.restarts)
        if suite.failed:
            print("\n".join(line for line in mount.log.read_text().splitlines() if not any(map(line.__contains__, USUAL))),
                  mount.steadfs("admin", "report", "--fs", mount.url).stdout, sep="\n", flush=True)
    suite.end()


if __name__ == "__main__":
    main()
