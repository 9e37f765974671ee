"""Programs that do on a cluster what they are told: one with our client, one with the stock client. Both may be killed."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

from patience import stretched  # noqa: E402
from peer import HERE, command, compile_java, write_conf  # noqa: E402

# No request takes longer unless something hangs.
SECONDS = 240
# A killed JVM should not cost more than it must.
SMALL = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Xss512k"]


class Dead(Exception):
    """The program ended before it answered: what it was told may be done or not."""


class Hung(Exception):
    """No answer within the time in which there must be one."""


class Refused(Exception):
    """It answered that it could not."""


class Hand:
    """A program of which requests may be asked from several threads. After its end the next request starts another."""

    def __init__(self, line, log):
        self.line, self.log = [str(word) for word in line], log
        self.lock = threading.Lock()
        self.process, self.waiting, self.next = None, {}, 0

    def started(self):
        """Under the lock: a process that runs."""
        if self.process is None or self.process.poll() is not None:
            environment = {**os.environ, "HADOOP_USER_NAME": "root", "RUST_BACKTRACE": "0"}
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(self.line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                                env=environment)
            self.waiting = {}
            threading.Thread(target=listen, args=(self.process, self.waiting), daemon=True).start()
        return self.process

    def ask(self, *words, payload=b"", seconds=SECONDS):
        """The answer's bytes."""
        answer = Answer()
        with self.lock:
            process = self.started()
            self.next += 1
            number = str(self.next)
            self.waiting[number] = answer
            try:
                process.stdin.write(" ".join([number, str(len(payload)), *map(str, words)]).encode() + b"\n" + payload)
                process.stdin.flush()
            except OSError:
                raise Dead() from None
        seconds = stretched(seconds)
        end = time.monotonic() + seconds
        while not answer.came.wait(1):
            if time.monotonic() > end:
                raise Hung(f"{' '.join(map(str, words))}: no answer within {seconds:.0f} s")
            # It may have ended just before it was asked; what it said before it did is still being read.
            if process.poll() is not None and not answer.came.wait(1):
                raise Dead()
        if answer.said is None:
            raise Dead()
        if answer.said != "ok":
            raise Refused(answer.data.decode(errors="replace"))
        return answer.data

    def pid(self):
        process = self.process
        return process.pid if process and process.poll() is None else None

    def kill(self):
        # Without the lock: who asks may hold it, writing to a program that reads no further while it waits for a dead server.
        process = self.process
        if process and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def end(self):
        """It ends as a program does whose work is done."""
        with self.lock:
            process, self.process = self.process, None
        if process and process.poll() is None:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Answer:
    def __init__(self):
        self.came, self.said, self.data = threading.Event(), None, b""


def listen(process, waiting):
    """Gives each answer to who waits for it; at the end of the program, all who still wait learn that."""
    out = process.stdout
    while line := out.readline():
        try:
            number, said, length = line.split()
            data = out.read(int(length))
        except ValueError:
            break
        answer = waiting.pop(number.decode(), None)
        if answer and len(data) == int(length):
            answer.said, answer.data = said.decode(), data
            answer.came.set()
    process.wait()
    while waiting:
        for number in list(waiting):
            if answer := waiting.pop(number, None):
                answer.came.set()


def our_hand(binary, url, folder, name):
    """Through our client: the program lies beside the binary."""
    return Hand([pathlib.Path(binary).with_name("steadfs-hand"), url], folder / f"{name}.log")


def stock_hand(url, folder, name):
    """Through the client of Apache HDFS, told to go on over a namenode's restart as it is told in clusters with a standby."""
    conf = write_conf(folder / f"{name}-conf", {
        "hadoop.tmp.dir": folder / "tmp", "dfs.blocksize": 262144, "dfs.replication": 2,
        "dfs.client.retry.policy.enabled": "true", "dfs.client.retry.policy.spec": "200,300",
        "ipc.client.connect.max.retries": 100, "ipc.client.connect.retry.interval": 200,
        "dfs.client.socket-timeout": 10000, "ipc.client.rpc-timeout.ms": 20000,
        "dfs.client.block.write.locateFollowingBlock.retries": 10,
    }, "FATAL")
    classes = compile_java([HERE / "java" / "Hand.java"], folder / "classes")
    return Hand(command(conf, "Hand", url, extra=[classes], options=SMALL), folder / f"{name}.log")
