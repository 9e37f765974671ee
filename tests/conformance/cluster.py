"""A SteadFS cluster for a test or the demonstration: `steadfs dev --processes` in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 30


class Failure(Exception):
    """Something that is not as it should be; its text is for a person."""


class Cluster:
    """Starts on entering, stops on leaving. After success `keep` leaves it running; a failure leaves its folder."""

    def __init__(self, binary, *options, datanodes=3, keep=False):
        self.binary = str(binary)
        self.options = [str(option) for option in options]
        self.datanodes = datanodes
        self.keep = keep
        self.folder = Path(tempfile.mkdtemp(prefix="steadfs-"))
        self.process = None
        self.endpoints = None

    def __enter__(self):
        try:
            self.start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is None and self.keep:
            return
        if kind is None:
            self.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        print(f"what is left of the cluster, logs too: {self.folder}", flush=True)
        try:
            self.stop()
        except Failure as failure:
            print(failure, flush=True)

    def start(self):
        command = [self.binary, "dev", "--dir", self.folder, "--processes", "--datanodes", str(self.datanodes),
                   "--port", "0", "--http-port", "0", *self.options]
        self.log = open(self.folder / "dev.log", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        told = self.folder / "endpoints.json"
        wait_for(lambda: told.exists() or self.process.poll() is not None, START_SECONDS, "the cluster serves")
        if self.process.poll() is not None:
            raise Failure(f"steadfs dev ended: {(self.folder / 'dev.log').read_text()[-2000:]}")
        self.endpoints = json.loads(told.read_text())

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure(f"the cluster did not stop within {STOP_SECONDS} s of SIGTERM") from None
        status, self.process = self.process.returncode, None
        self.log.close()
        if status != 0:
            raise Failure(f"steadfs dev ended with {status}; see {self.folder}/dev.log")

    @property
    def url(self):
        return self.endpoints["hdfs"]

    @property
    def http(self):
        return self.endpoints["http"]

    def kill_datanode(self, index):
        """SIGKILL, at once; returns what endpoints.json knows of it."""
        datanode = self.endpoints["datanodes"][index]
        os.kill(datanode["pid"], signal.SIGKILL)
        return datanode

    def run(self, *arguments, check=True, **options):
        """A `steadfs` command against this cluster."""
        environment = dict(os.environ, STEADFS_URL=self.url, STEADFS_CONNECT_TIMEOUT="60s")
        done = subprocess.run([self.binary, *map(str, arguments)], env=environment, text=True,
                              capture_output=True, **options)
        if check and done.returncode != 0:
            raise Failure(f"steadfs {' '.join(map(str, arguments))}: {done.stderr.strip() or done.returncode}")
        return done

    def report(self):
        """What `steadfs admin report` tells; that it exits with 1 where something is wrong is an answer too."""
        done = self.run("admin", "report", "--json", check=False)
        if not done.stdout.strip():
            raise Failure(f"steadfs admin report: {done.stderr.strip()}")
        return json.loads(done.stdout)


def wait_for(condition, seconds, what, pause=0.1):
    """Asks `condition` until it gives something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(pause)
