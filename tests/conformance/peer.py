"""Apache HDFS itself, from its published jars: a cluster beside ours, and Java programs with its classes.

The jars are those of `scripts/setup peer`, in the folder that PEER names: lib/ holds client and server, test/ what
Hadoop's own tests need.
"""

import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

from cluster import Failure, wait_for

HERE = Path(__file__).resolve().parent
START_SECONDS = 120
STOP_SECONDS = 20
COMMAND_SECONDS = 300

# Java 17 closes these packages; Hadoop's own launcher opens the same ones.
OPENED = ["java.base/" + package for package in (
    "java.io", "java.lang", "java.lang.reflect", "java.math", "java.net", "java.nio", "java.text", "java.util",
    "java.util.concurrent", "java.util.zip", "sun.nio.ch", "sun.security.util", "sun.security.x509")]
JAVA = ["java", *(word for package in OPENED for word in ("--add-opens", f"{package}=ALL-UNNAMED")),
        "-Djava.net.preferIPv4Stack=true"]
# Short-lived programs do best with little compilation.
SHORT = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
LOG4J = """log4j.rootLogger={level},A
log4j.appender.A=org.apache.log4j.ConsoleAppender
log4j.appender.A.target=System.err
log4j.appender.A.layout=org.apache.log4j.PatternLayout
log4j.appender.A.layout.ConversionPattern=%d{{ISO8601}} %p %c{{2}}: %m%n
log4j.logger.org.apache.hadoop.util.NativeCodeLoader=ERROR
log4j.logger.org.apache.hadoop.metrics2=ERROR
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=OFF
"""
NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"


def jars():
    """The folder that holds lib/ and test/."""
    folder = os.environ.get("PEER")
    if not folder or not Path(folder, "lib").is_dir():
        raise Failure("PEER names no folder of Hadoop's jars: source scripts/setup peer")
    return Path(folder)


def write_settings(path, settings):
    """A configuration file as Hadoop reads it."""
    rows = "".join(f"  <property><name>{escape(key)}</name><value>{escape(str(value))}</value></property>\n"
                   for key, value in settings.items())
    path.write_text(f'<?xml version="1.0"?>\n<configuration>\n{rows}</configuration>\n')


def write_conf(folder, settings, level="WARN"):
    """A folder of configuration. Each part of Hadoop puts its defaults over what files of other parts say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j.properties").write_text(LOG4J.format(level=level))
    for part in ("core", "hdfs", "mapred"):
        write_settings(folder / f"{part}-site.xml", settings)
    return folder


def class_path(conf, tests=False, extra=(), lib=None):
    """
    `extra` comes first, then the configuration, then Hadoop's jars, with `tests` those of its tests too. `lib` is a folder of
    jars of another Hadoop, in place of PEER's.
    """
    parts = [*map(str, extra), str(conf), f"{lib or jars() / 'lib'}/*"]
    if tests:
        parts.append(f"{jars()}/test/*")
    return ":".join(parts)


def command(conf, *arguments, tests=False, extra=(), options=SHORT, lib=None):
    """The command line that runs a Java program with Hadoop's classes."""
    return [*JAVA, *options, "-cp", class_path(conf, tests, extra, lib), *map(str, arguments)]


def run(conf, *arguments, user=None, tests=False, extra=(), seconds=COMMAND_SECONDS, stdin=None):
    """Runs a Java program; gives exit code, standard output and standard error, as text."""
    environment = dict(os.environ, LC_ALL="C.UTF-8")
    environment.pop("HADOOP_USER_NAME", None)
    if user:
        environment["HADOOP_USER_NAME"] = user
    done = subprocess.run(command(conf, *arguments, tests=tests, extra=extra), env=environment, capture_output=True,
                          text=True, timeout=seconds, input=stdin)
    return done.returncode, done.stdout, done.stderr


def compile_java(sources, target, tests=False, extra=(), lib=None):
    """Compiles Java files against Hadoop's classes into the folder `target`, which is given back."""
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["javac", "-nowarn", "-Xlint:none", "-d", str(target), "-cp", class_path(target, tests, extra, lib),
                           *map(str, sources)], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"javac: {done.stderr[-3000:]}")
    return target


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Peer:
    """
    A NameNode and DataNodes, a JVM each, on loopback and in a folder of their own; starts on entering, stops on leaving.
    `settings` are Hadoop's, over those that make a small cluster quick and let blocks be small. `options` are the JVMs'.
    """

    def __init__(self, datanodes=1, settings=None, options=("-Xmx1g",)):
        self.datanodes = datanodes
        self.options = list(options)
        self.folder = Path(tempfile.mkdtemp(prefix="hdfs-"))
        self.port, self.web = free_port(), free_port()
        self.settings = {
            "fs.defaultFS": self.url,
            "hadoop.tmp.dir": self.folder / "tmp",
            "hadoop.proxyuser.root.hosts": "*",
            "hadoop.proxyuser.root.groups": "*",
            "dfs.namenode.name.dir": f"file://{self.folder}/name",
            "dfs.namenode.http-address": f"127.0.0.1:{self.web}",
            "dfs.namenode.fs-limits.min-block-size": 0,
            "dfs.namenode.safemode.extension": 0,
            "dfs.namenode.redundancy.interval.seconds": "1s",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.replication": min(datanodes, 3),
            "dfs.heartbeat.interval": 1,
            **(settings or {}),
        }
        self.processes = {}

    @property
    def url(self):
        return f"hdfs://127.0.0.1:{self.port}"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.web}"

    def __enter__(self):
        try:
            self.start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"what is left of Apache HDFS, logs too: {self.folder}", flush=True)

    def conf(self, who, more=None):
        conf = write_conf(self.folder / f"conf-{who}", {**self.settings, **(more or {})}, "INFO")
        # Its HTTP server wants these folders; empty will do.
        for page in ("hdfs", "datanode", "static"):
            (conf / "webapps" / page / "WEB-INF").mkdir(parents=True, exist_ok=True)
        return conf

    def launch(self, who, program, conf):
        log = open(self.folder / f"{who}.log", "ab")
        self.processes[who] = subprocess.Popen(command(conf, program, options=self.options), stdin=subprocess.DEVNULL,
                                               stdout=log, stderr=log, cwd=self.folder, start_new_session=True)

    def start(self):
        conf = self.conf("namenode")
        code, out, error = run(conf, NAMENODE, "-format", "-force", "-nonInteractive")
        if code:
            raise Failure(f"the NameNode did not format its folder: {error[-2000:] or out}")
        self.launch("namenode", NAMENODE, conf)
        for number in range(self.datanodes):
            self.launch(f"datanode-{number}", DATANODE, self.conf(f"datanode-{number}", {
                "dfs.datanode.data.dir": f"file://{self.folder}/data-{number}",
                "dfs.datanode.address": "127.0.0.1:0", "dfs.datanode.http.address": "127.0.0.1:0",
                "dfs.datanode.ipc.address": "127.0.0.1:0", "dfs.datanode.hostname": "127.0.0.1"}))
        wait_for(self.ready, START_SECONDS, "Apache HDFS serves", 0.2)

    def bean(self, name):
        """One of the NameNode's JMX beans."""
        with urllib.request.urlopen(f"{self.http}/jmx?qry=Hadoop:service=NameNode,name={name}", timeout=5) as answer:
            return json.load(answer)["beans"][0]

    def ready(self):
        for who, process in self.processes.items():
            if process.poll() is not None:
                raise Failure(f"{who} of Apache HDFS ended: {(self.folder / f'{who}.log').read_text()[-2000:]}")
        try:
            return (self.bean("FSNamesystemState")["NumLiveDataNodes"] >= self.datanodes
                    and not self.bean("NameNodeInfo")["Safemode"])
        except (OSError, KeyError, IndexError):
            return False

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = {}


class Tools:
    """
    Hadoop's own commands (those that are a Tool), in one JVM, against any server. `settings` are in the configuration,
    `level` is that of the log, which goes to standard error; `programs` are files of java/ with commands of ours; `lib` as for
    class_path. Starts with the first command, ends with `close`.
    """

    SHELL = "org.apache.hadoop.fs.FsShell"
    NOISE = re.compile(r"SLF4J|^log4j|NativeCodeLoader|^\s*$")

    def __init__(self, folder, settings=None, level="WARN", programs=(), lib=None):
        self.folder = Path(folder)
        self.programs = list(programs)
        self.lib = lib
        self.conf = write_conf(self.folder / "conf-tools", {"hadoop.tmp.dir": self.folder / "tmp", **(settings or {})}, level)
        self.process = None

    def start(self):
        sources = [HERE / "java" / name for name in ("Runner.java", *self.programs)]
        classes = compile_java(sources, self.folder / "runner", lib=self.lib)
        line = command(self.conf, "Runner", extra=[classes], options=["-XX:+UseSerialGC"], lib=self.lib)
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.folder)

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait(STOP_SECONDS)
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, program, *arguments, user="", stdin=b""):
        """Exit code, standard output, and those lines of standard error that tell something."""
        if not self.process:
            self.start()
        texts = (str(word).encode() for word in (user, program, *arguments))
        words = [base64.b64encode(word).decode() for word in (stdin, *texts)]
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        # One answer a command: nothing is left in the stream's buffer before it.
        if not select.select([self.process.stdout], [], [], COMMAND_SECONDS)[0]:
            self.process.kill()
            raise Failure(f"{program} {' '.join(map(str, arguments))}: no end within {COMMAND_SECONDS} s")
        answer = self.process.stdout.readline()
        if not answer:
            raise Failure(f"{program}: the JVM ended with {self.process.wait()}")
        code, out, errors = answer.rstrip("\n").split(" ")
        out, errors = (base64.b64decode(text).decode() for text in (out, errors))
        return int(code), out, "\n".join(line for line in errors.splitlines() if not self.NOISE.search(line))

    def ok(self, program, *arguments, **options):
        code, out, errors = self.run(program, *arguments, **options)
        if code:
            raise AssertionError(f"{program} {' '.join(map(str, arguments))}: exit {code}: {errors[-2000:] or out}")
        return out

    def shell(self, url, *arguments, **options):
        """The stock FsShell; its standard output."""
        return self.ok(self.SHELL, "-fs", url, *arguments, **options)
