"""Operators' stock tools: every command of dfsadmin, fsck with all its options, haadmin, groups, debug, the balancer.

admin_suite.py --binary STEADFS            wants PEER (scripts/setup peer)
"""

import argparse
import getpass
import json
import re
import subprocess
import urllib.request
from pathlib import Path

from cluster import Cluster, wait_for
from peer import Tools, command
from suite import Suite, has, same

TOOLS = "org.apache.hadoop.hdfs.tools."
DFSADMIN, FSCK = TOOLS + "DFSAdmin", TOOLS + "DFSck"
DEAD_SECONDS = 30


class Admin:
    """The tools against one cluster; who is nobody special is `bob`."""

    def __init__(self, cluster, tools):
        self.cluster = cluster
        self.tools = tools
        self.url = cluster.endpoints["hdfs"]
        self.rpc = self.url.removeprefix("hdfs://")
        self.http = cluster.endpoints["http"].removeprefix("http://").rstrip("/")
        self.nodes = cluster.endpoints["datanodes"]
        self.hosts = cluster.folder / "hosts.json"

    def run(self, program, *arguments, user=""):
        generic = ("-D", f"fs.defaultFS={self.url}", "-D", f"dfs.namenode.http-address={self.http}")
        return self.tools.run(program, *generic, *arguments, user=user)

    def admin(self, *arguments, user=""):
        code, out, errors = self.run(DFSADMIN, *arguments, user=user)
        if code:
            raise AssertionError(f"dfsadmin {' '.join(arguments)}: exit {code}: {errors or out}")
        return out

    def refused(self, text, *arguments, user=""):
        code, out, errors = self.run(DFSADMIN, *arguments, user=user)
        if not code:
            raise AssertionError(f"dfsadmin {' '.join(arguments)}: succeeded, should not")
        has(errors + out, text)

    def fsck(self, *arguments, code=0, user=""):
        found, out, errors = self.run(FSCK, *arguments, user=user)
        if code is not None:
            same(found % 256, code, f"exit code of fsck {' '.join(arguments)}: {out[-1000:]} {errors}")
        return out

    def shell(self, *arguments):
        return self.tools.shell(self.url, *arguments)

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
            return answer.read().decode()

    def set_hosts(self, *entries):
        """The hosts file: (number of a datanode, more keys) for each."""
        rows = []
        for number, more in entries:
            host, port = self.nodes[number]["data"].rsplit(":", 1)
            rows.append({"hostName": host, "port": int(port), **more})
        self.hosts.write_text(json.dumps(rows))
        same(self.admin("-refreshNodes"), "Refresh nodes successful\n")

    def states(self):
        """What each datanode does, by address, as the topology tells it."""
        rows = re.findall(r"^   (\S+) \(.*?\) (.+)$", self.admin("-printTopology"), re.MULTILINE)
        return dict(rows)

    def state(self, number):
        return self.states().get(self.nodes[number]["data"])

    def settled(self, number, state):
        wait_for(lambda: self.state(number) == state, 60, f"datanode {number} is {state}")


class Writer:
    """A stock client that has a file open."""

    def __init__(self, a, path):
        words = command(a.tools.conf, Tools.SHELL, "-fs", a.url, "-put", "-d", "-", path)
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)


def report(a):
    text = a.admin("-report")
    for part in ("Configured Capacity: ", "DFS Used%: ", "Replicated Blocks:\n\tUnder replicated blocks: 0\n",
                 "Missing blocks (with replication factor 1): 0", "Live datanodes (3):\n", "Decommission Status : Normal",
                 "Last Block Report: "):
        has(text, part)
    same(text.count("Hostname: "), 3, "datanodes in the report")
    has(a.admin("-report", "-live", "-dead"), "Dead datanodes (0):")
    has(a.admin("-report", "-decommissioning"), "Decommissioning datanodes (0):")
    has(a.admin("-report", "-enteringmaintenance", "-inmaintenance"), "In maintenance datanodes (0):")
    has(a.admin("-report", "-slownodes"), "Slow datanodes (0):")
    a.refused("Superuser privilege is required for operation datanodeReport", "-report", user="bob")
    same(set(a.states().values()), {"In Service"})


def safe_mode(a):
    same(a.admin("-safemode", "get"), "Safe mode is OFF\n")
    a.refused("Superuser privilege is required", "-safemode", "enter", user="bob")
    a.refused("Safe mode should be turned ON in order to create namespace image.", "-saveNamespace")
    same(a.admin("-safemode", "enter"), "Safe mode is ON\n")
    same(a.admin("-safemode", "get"), "Safe mode is ON\n")
    same(a.admin("-saveNamespace"), "Save namespace successful\n")
    has(a.admin("-saveNamespace", "-beforeShutdown"), "No extra checkpoint has been made")
    a.refused("Superuser privilege is required for operation saveNamespace", "-saveNamespace", user="bob")
    a.refused("Log not rolled. Name node is in safe mode.", "-rollEdits")
    a.refused("there are no rollback images", "-rollingUpgrade", "prepare")
    same(a.admin("-safemode", "leave"), "Safe mode is OFF\n")
    same(a.admin("-safemode", "enter"), "Safe mode is ON\n")
    same(a.admin("-safemode", "forceExit"), "Safe mode is OFF\n")
    same(a.admin("-safemode", "wait"), "Safe mode is OFF\n")


def journal(a):
    def rolled():
        return int(re.search(r"New segment starts at txid (\d+)", a.admin("-rollEdits"))[1])

    first = rolled()
    same(rolled(), first, "nothing happened between the two")
    a.shell("-mkdir", "/rolled")
    same(rolled() > first, True)
    a.refused("Superuser privilege is required for operation rollEditLog", "-rollEdits", user="bob")
    same(a.admin("-restoreFailedStorage", "check"), "restoreFailedStorage is set to false\n")
    same(a.admin("-restoreFailedStorage", "true"), "restoreFailedStorage is set to true\n")
    same(a.admin("-restoreFailedStorage", "false"), "restoreFailedStorage is set to false\n")


def upgrade(a):
    same(a.admin("-finalizeUpgrade"), "Finalize upgrade successful\n")
    same(a.admin("-upgrade", "query"), "Upgrade finalized\n")
    for action in ("query", "finalize"):
        has(a.admin("-rollingUpgrade", action), "There is no rolling upgrade in progress")
    a.refused("Safe mode should be turned ON", "-rollingUpgrade", "prepare")


def refresh(a):
    same(a.admin("-refreshServiceAcl"), "Refresh service acl successful\n")
    same(a.admin("-refreshUserToGroupsMappings"), "Refresh user to groups mapping successful\n")
    same(a.admin("-refreshSuperUserGroupsConfiguration"), "Refresh super user groups configuration successful\n")
    same(a.admin("-refreshCallQueue"), "Refresh call queue successful\n")
    code, out, _ = a.run(DFSADMIN, "-refresh", a.rpc, "nosuch", "key")
    same((code != 0, "Failed to get response" in out), (True, True))
    a.refused("Superuser privilege is required for operation refreshNodes", "-refreshNodes", user="bob")


def reconfigure(a):
    for kind, address in (("namenode", a.rpc), ("datanode", a.nodes[0]["ipc"])):
        has(a.admin("-reconfig", kind, address, "properties"), "Reconfigurable properties:")
        has(a.admin("-reconfig", kind, address, "start"), "Started reconfiguration task")
        wait_for(lambda: "and finished at" in a.admin("-reconfig", kind, address, "status"), 60, "the reconfiguration ends")
    node = a.nodes[0]
    has(a.admin("-reconfig", "datanode", node["ipc"], "properties"), "dfs.datanode.data.dir")
    a.refused("Permission denied", "-reconfig", "datanode", node["ipc"], "start", user="bob")
    config = Path(node["dir"]) / "config.toml"
    before = config.read_text()
    added = Path(node["dir"]) / "volume-added"

    def changed(text):
        """What a datanode says once it has read this configuration."""
        config.write_text(text)
        has(a.admin("-reconfig", "datanode", node["ipc"], "start"), "Started reconfiguration task")
        said = []

        def ended():
            said.append(a.admin("-reconfig", "datanode", node["ipc"], "status"))
            return "and finished at" in said[-1]

        wait_for(ended, 60, "the reconfiguration ends")
        return said[-1]

    text = changed(f'{before}\n[[volumes]]\npath = "[SSD]{added}"\n')
    has(text, "SUCCESS: Changed property dfs.datanode.data.dir")
    has(text, f"[SSD]{added}")
    has(a.admin("-getVolumeReport", node["ipc"]), "Active Volumes : 2")
    text = changed(f'{before}\n[[volumes]]\npath = "/proc/no/folder"\n')
    has(text, "FAILED: Change property dfs.datanode.data.dir")
    has(text, "/proc/no/folder")
    changed(before)
    has(a.admin("-getVolumeReport", node["ipc"]), "Active Volumes : 1")


def datanode(a):
    ipc = a.nodes[0]["ipc"]
    has(a.admin("-getDatanodeInfo", ipc), "Software version: ")
    volumes = a.admin("-getVolumeReport", ipc)
    for part in ("Active Volumes : 1", "StorageType: DISK", "Capacity Used: ", "Blocks: "):
        has(volumes, part)
    a.refused("Permission denied.", "-getVolumeReport", ipc, user="bob")
    has(a.admin("-triggerBlockReport", ipc), "Triggering a full block report")
    has(a.admin("-triggerBlockReport", "-incremental", ipc), "Triggering an incremental block report")
    has(a.admin("-evictWriters", ipc), "Requested writer eviction")
    a.admin("-refreshNamenodes", ipc)
    a.admin("-deleteBlockPool", ipc, "BP-1")
    pool = re.search(r"(BP-\S+?):blk", a.fsck("/d", "-files", "-blocks"))[1]
    a.refused("The block pool is still running", "-deleteBlockPool", ipc, pool, "force")
    same(a.admin("-setBalancerBandwidth", "12345678"), "Balancer bandwidth is set to 12345678\n")
    wait_for(lambda: "12345678 bytes per second" in a.admin("-getBalancerBandwidth", ipc), 30, "the bandwidth is told")
    a.refused("Superuser privilege is required for operation setBalancerBandwidth", "-setBalancerBandwidth", "1", user="bob")


def meta_save(a):
    has(a.admin("-metasave", "meta.txt"), "Created metasave file meta.txt in the log directory of namenode hdfs://")
    found = list(a.cluster.folder.rglob("reports/meta.txt"))
    same(len(found), 1, "reports")
    text = found[0].read_text()
    for part in (" total filesystem objects\nLive Datanodes: 3\nDead Datanodes: 0\n",
                 "Metasave: Blocks waiting for reconstruction: 0\n", "Metasave: Number of datanodes: 3\n", " IN "):
        has(text, part)
    a.refused("is not a plain file name", "-metasave", "../meta.txt")
    a.refused("Superuser privilege is required for operation metaSave", "-metasave", "x", user="bob")


def open_files(a):
    same(a.admin("-listOpenFiles").splitlines()[1:], [])
    with Writer(a, "/d/open"):
        wait_for(lambda: "/d/open" in a.admin("-listOpenFiles"), 60, "a file is open")
        for arguments in ([], ["-path", "/d"]):
            row = a.admin("-listOpenFiles", *arguments).splitlines()[1:]
            same([line.split()[-1] for line in row], ["/d/open"])
        same(a.admin("-listOpenFiles", "-path", "/none").splitlines()[1:], [])
        same(a.admin("-listOpenFiles", "-blockingDecommission").splitlines()[1:], [])
        text = a.fsck("/d", "-openforwrite", "-files", "-blocks", "-locations")
        has(text, "OPENFORWRITE: ")
        has(a.fsck("/d"), " (Files currently being written: 1)")
    a.refused("Superuser privilege is required for operation listOpenFiles", "-listOpenFiles", user="bob")


def fsck(a):
    text = a.fsck("/")
    for part in (f"FSCK started by {getpass.getuser()} (auth:SIMPLE) from /127.0.0.1 for path / at ",
                 "\nStatus: HEALTHY\n Number of data-nodes:\t3\n Number of racks:\t\t1\n", "Erasure Coded Block Groups:\n",
                 " milliseconds\n\n\nThe filesystem under path '/' is HEALTHY"):
        has(text, part)
    files = a.fsck("/d", "-files", "-blocks", "-locations")
    has(files, "/d <dir>\n/d/a 12 bytes, replicated: replication=2, 1 block(s):  OK\n0. BP-")
    same(files.count("DatanodeInfoWithStorage["), 5, "places of replicas")
    has(files, ",DISK]")
    has(a.fsck("/d", "-files", "-blocks", "-racks"), "[/default-rack/127.0.0.1:")
    has(a.fsck("/d", "-files", "-blocks", "-replicaDetails"), "DISK](LIVE)")
    has(a.fsck("/d", "-files", "-blocks", "-upgradedomains"), "(ud=undefined)")
    has(a.fsck("/d", "-storagepolicies"), "DISK:2(HOT)")
    has(a.fsck("/d", "-list-corruptfileblocks"), "The filesystem under path '/d' has 0 CORRUPT blocks")
    for flag in ("-move", "-delete", "-includeSnapshots", "-showprogress", "-replicate", "-openforwrite", "-maintenance"):
        has(a.fsck("/d", flag), "is HEALTHY")
    block = re.search(r"blk_\d+", files)[0]
    told = a.fsck("/", "-blockId", block)
    has(told, f"\nBlock Id: {block}\nBlock belongs to: /d/a\nNo. of Expected Replica: 2\nNo. of live Replica: 2\n")
    has(told, "Block replica on datanode/rack: 127.0.0.1/default-rack is HEALTHY")
    has(a.fsck("/", "-blockId", "blk_1"), "Block blk_1 does not exist")
    has(a.fsck("/", "-blockId", "odd"), "Incorrect blockId format: odd")
    has(a.fsck("/", "-blockId", block, code=255, user="bob"), "Superuser privilege is required for operation fsck")
    has(a.fsck("/d", user="bob"), "is HEALTHY")


def decommission(a):
    a.set_hosts((2, {"adminState": "DECOMMISSIONED"}))
    # Three replicas are wanted; two are there besides, which is what files get by default.
    a.settled(2, "Decommissioned")
    text = a.fsck("/d/b", "-files", "-blocks", "-replicaDetails")
    has(text, "(DECOMMISSIONED)")
    block = re.search(r"blk_\d+", text)[0]
    # The exit code is that of the replica told last.
    has(a.fsck("/", "-blockId", block, code=None), "No. of decommissioned Replica: 1\n")
    a.set_hosts((2, {"adminState": "DECOMMISSIONED"}), (1, {"adminState": "DECOMMISSIONED"}))
    a.settled(1, "Decommission In Progress")
    has(a.admin("-report", "-decommissioning"), "Decommission Status : Decommission in progress")
    has(a.fsck("/d/b", "-files", "-blocks", "-replicaDetails"), "(DECOMMISSIONING)")
    a.set_hosts((2, {"adminState": "DECOMMISSIONED"}))
    a.settled(1, "In Service")
    has(a.admin("-report"), "Decommission Status : Decommissioned")
    a.shell("-D", "dfs.replication=2", "-put", str(a.local), "/d/after")
    wait_for(lambda: "Live_repl=2" in a.fsck("/d/after", "-files", "-blocks", "-locations"), 30, "both replicas are known")
    if a.nodes[2]["data"] in a.fsck("/d/after", "-files", "-blocks", "-locations"):
        raise AssertionError("a decommissioned datanode got a new replica")
    a.set_hosts()
    a.settled(2, "In Service")


def maintenance(a):
    a.set_hosts((2, {"adminState": "IN_MAINTENANCE"}))
    a.settled(2, "In Maintenance")
    has(a.admin("-report", "-inmaintenance"), "In maintenance datanodes (1):")
    for line in a.fsck("/d", "-files", "-blocks", "-replicaDetails", "-maintenance").splitlines():
        if a.nodes[2]["data"] in line:
            has(line, "(IN MAINTENANCE)")
    a.set_hosts((2, {"adminState": "IN_MAINTENANCE", "maintenanceExpireTimeInMS": 1}))
    a.settled(2, "In Service")
    a.set_hosts()


def own_tools(a):
    """Ours, which keep what is ordered in the namespace."""
    uuid = a.nodes[1]["uuid"]
    a.cluster.run("admin", "maintenance", uuid)
    a.settled(1, "In Maintenance")
    has(a.cluster.run("admin", "datanodes").stdout, "in maintenance")
    a.admin("-refreshNodes")
    same(a.state(1), "In Maintenance", "after the hosts files were read again")
    a.cluster.run("admin", "recommission", a.nodes[1]["data"])
    a.settled(1, "In Service")
    has(a.cluster.run("admin", "roll-journal").stdout, "the new segment begins with transaction")
    has(a.cluster.run("admin", "save-report", "own.txt").stdout, "reports/own.txt")
    a.cluster.run("admin", "refresh-nodes")
    a.cluster.run("admin", "balancer-bandwidth", "1MiB")
    a.cluster.run("admin", "open-files")


def other_protocols(a):
    code, out, _ = a.run(TOOLS + "GetGroups", getpass.getuser())
    same((code, out.startswith(f"{getpass.getuser()} : ")), (0, True))
    pairs = ["-D", "dfs.nameservices=one", "-D", "dfs.ha.namenodes.one=n1,n2",
             "-D", f"dfs.namenode.rpc-address.one.n1={a.rpc}", "-D", f"dfs.namenode.rpc-address.one.n2={a.rpc}"]
    code, out, errors = a.run(TOOLS + "DFSHAAdmin", *pairs, "-getServiceState", "n1")
    same((code, out), (0, "active\n"), errors)
    code, _, errors = a.run(TOOLS + "DFSHAAdmin", *pairs, "-transitionToStandby", "n1")
    has(errors, "HA for namenode is not enabled")


def pages(a):
    same(a.get("/isActive"), "I am Active!")
    has(a.get("/topology"), "Rack: /default-rack\n   127.0.0.1:")
    has(a.get("/conf?name=dfs.replication"), "<name>dfs.replication</name><value>2</value>")
    same(json.loads(a.get("/conf?name=dfs.replication&format=json"))["property"]["value"], "2")
    beans = {bean["name"].rsplit("=", 1)[1]: bean for bean in json.loads(a.get("/jmx"))["beans"]}
    same(beans["FSNamesystemState"]["NumLiveDataNodes"], 3)
    same(beans["NameNodeInfo"]["Safemode"], "")
    same(len(json.loads(beans["NameNodeInfo"]["LiveNodes"])), 3)
    one = json.loads(a.get("/jmx?qry=Hadoop:service=NameNode,name=NameNodeStatus"))["beans"]
    same([bean["State"] for bean in one], ["active"])
    a.refused("failed with status code 501", "-fetchImage", str(a.cluster.folder))


def debug(a):
    """Checksum files are HDFS's own."""
    text = a.fsck("/d/a", "-files", "-blocks", "-locations")
    block = re.search(r"blk_\d+", text)[0]
    data = next(path for path in a.cluster.folder.rglob(block) if path.is_file())
    meta = next(path for path in data.parent.iterdir() if path.name.startswith(block + "_") and path.suffix == ".meta")
    code, out, errors = a.run(TOOLS + "DebugAdmin", "verifyMeta", "-meta", str(meta), "-block", str(data))
    same((code, "Checksum type:" in out and "Checksum verification succeeded" in out), (0, True), out + errors)
    code, out, errors = a.run(TOOLS + "DebugAdmin", "recoverLease", "-path", "/d/a", "-retries", "2")
    same((code, "recoverLease SUCCEEDED on /d/a" in out), (0, True), out + errors)


def lost(a):
    """A file whose only replica is gone with its datanode; last, as it costs one."""
    a.shell("-D", "dfs.replication=1", "-put", str(a.local), "/d/lost")
    text = a.fsck("/d/lost", "-files", "-blocks", "-locations")
    number = next(at for at, node in enumerate(a.nodes) if node["data"] in text)
    a.admin("-shutdownDatanode", a.nodes[number]["ipc"])
    wait_for(lambda: "Dead datanodes (1):" in a.admin("-report", "-dead"), DEAD_SECONDS, "a datanode is dead")
    wait_for(lambda: "Missing blocks (with replication factor 1): 1" in a.admin("-report"), DEAD_SECONDS, "a block is missing")
    text = a.fsck("/d/lost", "-files", "-blocks", code=1)
    has(text, " MISSING 1 blocks of total size 12 B\n0. ")
    has(text, " MISSING!\n")
    has(text, "\n  CORRUPT FILES:\t1\n  MISSING BLOCKS:\t1\n  MISSING SIZE:\t\t12 B\n")
    has(text, "The filesystem under path '/d/lost' is CORRUPT")
    has(a.fsck("/d", "-list-corruptfileblocks", code=255), "\t1\t/d/lost\nThe filesystem under path '/d' has 1 CORRUPT blocks")
    has(a.fsck("/d", "-delete", code=1), "is CORRUPT")
    has(a.fsck("/d", code=0), "is HEALTHY")


CHECKS = (report, safe_mode, journal, upgrade, refresh, reconfigure, datanode, meta_save, open_files, fsck, decommission,
          maintenance, own_tools, other_protocols, pages, debug, lost)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    suite = Suite()
    hosts = ("--set", "hosts.combined_file={folder}/hosts.json")
    options = ("--replication", "2", "--min-block-size", "1", "--set", "dead_after_ms=6000", "--set",
               "heartbeat_interval_ms=500")
    cluster = Cluster(args.binary, *options)
    (cluster.folder / "hosts.json").write_text("[]")
    cluster.options += [word.format(folder=cluster.folder) for word in hosts]
    with cluster, Tools(cluster.folder, {"fs.hdfs.impl.disable.cache": "true"}) as tools:
        a = Admin(cluster, tools)
        a.local = Path(cluster.folder, "twelve")
        a.local.write_text("hello world\n")
        a.shell("-mkdir", "/d")
        a.shell("-D", "dfs.replication=2", "-put", str(a.local), "/d/a")
        a.shell("-D", "dfs.replication=3", "-put", str(a.local), "/d/b")
        for check in CHECKS:
            if not args.only or check.__name__ in args.only:
                suite.check(check.__name__, check, a)
    suite.end()


if __name__ == "__main__":
    main()
