"""csi-sanity, the interface's own tests of a driver, against ours over a cluster: every test of what the driver declares.

csi_suite.py --binary STEADFS --sanity CSI-SANITY      as root, with /dev/fuse
"""

import argparse
import getpass
import json
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, wait_for
from suite import Suite

SECONDS = 240
MORE_RUNS = 2
# What the driver does not declare, in csi-sanity's words.
UNDECLARED = ("CreateSnapshot", "DeleteSnapshot", "ListSnapshots", "Snapshot", "Volume Cloning", "GroupControllerService",
              "NodeExpandVolume", "ControllerModifyVolume", "Modify volume", "Modify Volume", "ControllerPublishVolume",
              "ControllerUnpublishVolume", "Controller Publish, UnpublishVolume")


def start(binary, folder, *arguments):
    log = open(folder / "log", "ab")
    return subprocess.Popen([binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def is_undeclared(spec):
    """Whether a test was left out because the driver does not declare what it tests, or by csi-sanity itself."""
    message = (spec.get("Failure") or {}).get("Message", "")
    return spec["State"] == "pending" or (
        spec["State"] == "skipped" and message.removesuffix(" not supported") in UNDECLARED)


def judge(spec):
    raise AssertionError(f"{spec['State']}: {(spec.get('Failure') or {}).get('Message', '')}")


def nothing_left(folder):
    left = [line.split()[4] for line in open("/proc/self/mountinfo") if str(folder) in line.split()[4]]
    if left:
        raise AssertionError(f"mounted still: {left}")


def run(sanity, socket, work):
    """What csi-sanity says of each of its tests."""
    report = work / "report.json"
    report.unlink(missing_ok=True)
    done = subprocess.run([sanity, "-csi.endpoint", f"unix://{socket}", "-csi.mountdir", work / "target",
                           "-csi.stagingdir", work / "staging", "-ginkgo.json-report", report],
                          capture_output=True, text=True, timeout=SECONDS)
    if not report.exists():
        raise SystemExit(f"csi-sanity: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return [spec for spec in json.loads(report.read_text())[0]["SpecReports"] if spec["LeafNodeType"] == "It"]


def missed_its_connection(spec):
    """csi-sanity asks for a connection's state twice, and waits a minute for a change if it became ready in between."""
    return "Connection timed out" in (spec.get("Failure") or {}).get("Message", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--sanity", required=True)
    options = parser.parse_args()
    suite = Suite()
    with tempfile.TemporaryDirectory(prefix="steadfs-csi-") as work, Cluster(options.binary) as cluster:
        work = Path(work)
        socket, keeper = work / "csi.sock", work / "keeper" / "keeper.sock"
        processes = [
            start(options.binary, work, "mount-keeper", "--socket", keeper),
            start(options.binary, work, "csi", "both", "--endpoint", f"unix://{socket}", "--fs", cluster.url, "--user",
                  getpass.getuser(), "--node", "node-1", "--keeper", keeper, "--state", work / "state"),
        ]
        try:
            wait_for(socket.exists, 60, "the driver has its socket")
            specs = run(options.sanity, socket, work)
            for _ in range(MORE_RUNS):
                if not any(missed_its_connection(spec) for spec in specs):
                    break
                specs = run(options.sanity, socket, work)
            for spec in specs:
                if spec["State"] == "passed":
                    suite.passed += 1
                elif not is_undeclared(spec):
                    name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
                    suite.check(f"{spec['State']}: {name}", judge, spec)
            print(f"  {sum(map(is_undeclared, specs))} tests are of what the driver does not declare", flush=True)
            suite.check("nothing is mounted any more", nothing_left, work)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            if suite.failed:
                print((work / "log").read_text()[-3000:], flush=True)
    suite.end()


main()
