"""Pods and nodes that go, come, move and are cut off, while programs read and write."""

import time

import kube
import spark_jobs
from kube import Failed, Load, Machines, NotRun, has, same

# A dead node counts as dead soon, so that its replicas are made anew while we look.
VALUES = {
    "namenode.config.datanodes.stale_after_ms": "10000",
    "namenode.config.datanodes.dead_after_ms": "25000",
}

STOCK = """
set -e
mkdir -p /tmp/w; cd /tmp/w; : > done; : > failed; n=0
while [ ! -e stop ]; do
    head -c 300000 /dev/urandom > f
    if java -cp "/conf:$SPARK_HOME/jars/*" org.apache.hadoop.fs.FsShell -put -f f /load/stock/$n 2> error; then echo "$n $(sha256sum < f | cut -d' ' -f1)" >> done
    else echo "$n $(tr '\\n' ' ' < error)" >> failed; fi
    n=$((n + 1))
done
echo ended >> done
exec sleep infinity
"""


def put_file(release, path, size, *options):
    script = (
        f"head -c {size} /dev/urandom > /tmp/f && sha256sum < /tmp/f && steadfs fs put -f {' '.join(options)} /tmp/f {path}"
    )
    return kube.execute(release.namespace, f"{release.name}-namenode-0", "bash", "-c", script).split()[0]


def sum_of(release, path):
    script = f"steadfs fs cat {path} | sha256sum"
    return kube.execute(release.namespace, f"{release.name}-namenode-0", "bash", "-c", script).split()[0]


def case_a_datanode_pod_is_deleted(release):
    """A new pod with another address is the same datanode; nothing is copied for it."""
    release.wait_healthy()
    total = put_file(release, "/life-1", 5_000_000)
    load = Load(release, "life-datanode")
    node, old = sorted(release.by_node().items())[0]
    pod = next(pod for pod in release.parts("datanode") if pod["spec"]["nodeName"] == node)
    kube.kubectl("-n", release.namespace, "delete", "pod", pod["metadata"]["name"])

    def back():
        new = release.by_node().get(node)
        return new and new["live"] and new["uuid"] == old["uuid"] and new["address"] != old["address"] and new

    new = kube.until("the datanode is back with its identity", back)
    load.wait_more(5)
    seen = load.end()
    same(sum_of(release, "/life-1"), total, "content")
    release.wait_healthy()
    return f"{old['address']} became {new['address']}, still {new['uuid'][:8]}; {seen}"


def case_the_namenode_pod_is_deleted_while_ours_write(release):
    loads = [Load(release, f"life-namenode-{node}", node) for node in kube.nodes()[:2]]
    old = release.parts("namenode")[0]["metadata"]["uid"]
    kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0", "--wait=false")
    kube.until("a new pod", lambda: [p for p in release.parts("namenode") if p["metadata"]["uid"] != old])
    for load in loads:
        load.wait_more(5)
    return "; ".join(load.end() for load in loads)


def case_the_namenode_pod_is_deleted_while_a_stock_client_writes(release):
    """With the discovery ConfigMap's configuration: dfs.client.retry.policy.enabled."""
    spark_jobs.load_image(spark_jobs.VERSIONS[0])
    image = spark_jobs.image(spark_jobs.VERSIONS[0])
    volumes = [{"name": "conf", "configMap": {"name": f"{release.name}-client"}}]
    mounts = [{"name": "conf", "mountPath": "/conf"}]
    env = {"HADOOP_CONF_DIR": "/conf", "HADOOP_USER_NAME": "steadfs"}
    release.fs("mkdir", "-p", "/load/stock")
    kube.apply(kube.pod("life-stock", STOCK, image, volumes=volumes, mounts=mounts, env=env), release.namespace)
    kube.wait_pod(release.namespace, "life-stock", "Running")

    def count():
        return int(kube.execute(release.namespace, "life-stock", "sh", "-c", "wc -l < /tmp/w/done"))

    kube.until("the stock client writes", lambda: count() >= 2)
    old = release.parts("namenode")[0]["metadata"]["uid"]
    kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0", "--wait=false")
    kube.until("a new pod", lambda: [p for p in release.parts("namenode") if p["metadata"]["uid"] != old])
    goal = count() + 3
    kube.until("the stock client goes on", lambda: count() >= goal)
    kube.execute(
        release.namespace, "life-stock", "sh", "-c", "touch /tmp/w/stop; until grep -q ended /tmp/w/done; do sleep 0.2; done"
    )
    lines = kube.execute(release.namespace, "life-stock", "cat", "/tmp/w/done").split("\n")
    written = dict(line.split() for line in lines if " " in line)
    failed = kube.execute(release.namespace, "life-stock", "cat", "/tmp/w/failed")
    kube.kubectl("-n", release.namespace, "delete", "pod", "life-stock", "--wait=false")
    release.wait()
    for number, total in written.items():
        same(sum_of(release, f"/load/stock/{number}"), total, f"/load/stock/{number}")
    same(failed, "", "refused to the stock client")
    return f"{len(written)} files acknowledged to the stock client, all right"


def case_a_stock_client_that_starts_while_there_is_no_namenode_waits(release):
    spark_jobs.load_image(spark_jobs.VERSIONS[0])
    volumes = [{"name": "conf", "configMap": {"name": f"{release.name}-client"}}]
    mounts = [{"name": "conf", "mountPath": "/conf"}]
    env = {"HADOOP_CONF_DIR": "/conf", "HADOOP_USER_NAME": "steadfs"}
    total = put_file(release, "/life-late", 300_000)
    statefulset = f"statefulset/{release.name}-namenode"
    kube.kubectl("-n", release.namespace, "scale", statefulset, "--replicas=0")
    try:
        kube.until("no namenode", lambda: not release.parts("namenode"))
        script = 'java -cp "/conf:$SPARK_HOME/jars/*" org.apache.hadoop.fs.FsShell -cat /life-late | sha256sum'
        pod = kube.pod("life-late", script, spark_jobs.image(spark_jobs.VERSIONS[0]), volumes=volumes, mounts=mounts, env=env)
        kube.apply(pod, release.namespace)
        kube.wait_pod(release.namespace, "life-late", "Running")
        # Until it has looked the namenode up: nothing outside tells when.
        time.sleep(10)
    finally:
        kube.kubectl("-n", release.namespace, "scale", statefulset, "--replicas=1")
    has(kube.wait_pod(release.namespace, "life-late"), total)
    kube.kubectl("-n", release.namespace, "delete", "pod", "life-late", "--wait=false")
    release.wait()
    return "it read the file once the namenode was back"


def case_name_service_is_stopped(release):
    """Clients and datanodes that are connected go on without DNS."""
    load = Load(release, "life-dns")
    # One process that holds its connection for the whole time: a stream that is written slowly.
    slow = "(for i in $(seq 400); do head -c 20000 /dev/zero; [ -e /tmp/fast ] || sleep 0.2; done) | steadfs fs put -f --quiet - /life-slow && echo written"
    kube.apply(
        kube.pod("life-slow", slow, release.image, env={"STEADFS_URL": release.url, "HADOOP_USER_NAME": "steadfs"}),
        release.namespace,
    )
    kube.wait_pod(release.namespace, "life-slow", "Running")
    kube.until("the slow file is there", lambda: "life-slow" in release.fs("ls", "/"))
    copies = kube.get("-n", "kube-system", "deployment", "coredns")["spec"]["replicas"]
    kube.kubectl("-n", "kube-system", "scale", "deployment/coredns", "--replicas=0")
    try:
        kube.until("DNS is gone", lambda: not kube.items("-n", "kube-system", "pods", "-l", "k8s-app=kube-dns"))
        beats = {d["uuid"]: d["last_heartbeat"] for d in release.report()["datanodes"]}
        kube.until(
            "heartbeats go on",
            lambda: all(d["last_heartbeat"] > beats[d["uuid"]] and d["live"] for d in release.report()["datanodes"]),
        )
        kube.execute(release.namespace, "life-slow", "touch", "/tmp/fast")
        has(kube.wait_pod(release.namespace, "life-slow"), "written")
        same(len(release.fs("cat", "/life-slow")), 8_000_000, "bytes of the slow file")
    finally:
        kube.kubectl("-n", "kube-system", "scale", "deployment/coredns", f"--replicas={copies}")
        kube.kubectl("-n", release.namespace, "delete", "pod", "life-slow", "--ignore-not-found", "--wait=false")
    kube.wait_rolled_out("kube-system", "deployment/coredns")
    load.wait_more(5)
    seen = load.end(failures=10**6)  # Each `steadfs fs put` is a new process, which has to look the name up.
    return f"a stream of 8 MB went on without DNS, heartbeats too; new clients: {seen}"


def case_a_cordoned_node_enters_maintenance(release):
    node = kube.nodes()[-1]

    def state(wanted):
        return lambda: wanted in release.by_node()[node]["state"] and release.by_node()[node]["state"]

    kube.kubectl("cordon", node)
    try:
        seen = kube.until("maintenance", state("maintenance"))
        total = put_file(release, "/life-cordon", 3_000_000)
        same(sum_of(release, "/life-cordon"), total, "content")
    finally:
        kube.kubectl("uncordon", node)
    kube.until("in service", state("in service"))
    release.wait_healthy()
    return f"{node}: {seen}, and back in service"


def case_a_node_is_drained(release):
    """`kubectl drain` leaves DaemonSets alone; with the node watch the replicas are safe before the node goes."""
    node = kube.nodes()[-1]
    if any(pod["spec"].get("nodeName") == node for pod in release.parts("namenode")):
        node = kube.nodes()[0]
    total = put_file(release, "/life-drain", 3_000_000)
    load = Load(release, "life-drain", next(other for other in kube.nodes() if other != node))
    try:
        kube.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=170s")
        kube.until("safe to stop", lambda: release.admin("safe-to-stop", "--node", node, check=False).returncode == 0)
        same(sum_of(release, "/life-drain"), total, "content")
        load.wait_more(5)
    finally:
        kube.kubectl("uncordon", node)
    seen = load.end()
    release.wait_healthy()
    return f"{node} drained; {seen}"


def home_and_victim(release):
    """The namenode's node, and one that has neither it nor the name service: those are cases of their own."""
    home = release.parts("namenode")[0]["spec"]["nodeName"]
    names = {pod["spec"].get("nodeName") for pod in kube.items("-n", "kube-system", "pods", "-l", "k8s-app=kube-dns")}
    for node in kube.nodes():
        if node != home and node not in names:
            return home, node
    raise Failed("every node has the namenode or the name service")


def case_a_node_is_killed_and_comes_back(release):
    """A power cut: what was acknowledged is read from the others and copied; then the node comes back as it was."""
    home, node = home_and_victim(release)
    total = put_file(release, "/life-killed", 5_000_000, "--replication", "2")
    load = Load(release, "life-killed", home)
    old = release.by_node()[node]
    Machines.kill(node)
    try:
        kube.until("it counts as dead", lambda: release.report()["dead_datanodes"] == 1)
        same(sum_of(release, "/life-killed"), total, "content")
        load.wait_more(3)
    finally:
        Machines.start(node)

    def back():
        new = release.by_node().get(node)
        return new and new["live"] and new["uuid"] == old["uuid"]

    kube.until("the datanode is back with its identity", back)
    seen = load.end(failures=10**6)
    same(sum_of(release, "/life-killed"), total, "content")
    release.wait_healthy()
    return f"{node} killed and started; {seen}"


case_a_node_is_killed_and_comes_back.needs_machines = True


def case_a_removed_node_is_replaced(release):
    """A node that never comes back: its replicas are made again on the nodes that are left."""
    home, node = home_and_victim(release)
    total = put_file(release, "/life-removed", 5_000_000, "--replication", "2", "--block-size", "1MiB")
    held = release.by_node()[node]["blocks"]
    Machines.kill(node)
    kube.kubectl("delete", "node", node)
    try:
        kube.until("it counts as dead", lambda: release.report()["dead_datanodes"] == 1)

        def whole():
            checked = kube.json.loads(release.fs_check("/life-removed"))
            return not checked["under_replicated"] and not checked["missing"] and checked

        seen = kube.until("two replicas of each block on the nodes that are left", whole)
        same(sum_of(release, "/life-removed"), total, "content")
    finally:
        Machines.start(node)
    release.wait()
    release.wait_healthy()
    return f"{node} held {held} blocks; all {seen['blocks']} blocks of the file have two replicas elsewhere"


case_a_removed_node_is_replaced.needs_machines = True


def case_scale_in_drains_first_and_scale_out_joins(release):
    """Datanodes where a label is: a node without it gives its replicas away first, one with it joins."""
    nodes = kube.nodes()
    if len(nodes) < 3:
        raise NotRun("fewer than three nodes")
    leaving = next(n for n in nodes if n != release.parts("namenode")[0]["spec"]["nodeName"])
    kube.kubectl("label", "node", *nodes, "steadfs.dev/test=yes", "--overwrite")
    values = {**VALUES, "datanode.nodeSelector.steadfs\\.dev/test": "yes"}
    try:
        release.install(**values)
        kube.wait_rolled_out(release.namespace, f"daemonset/{release.name}-datanode")
        release.wait()
        release.wait_healthy()
        total = put_file(release, "/life-scale", 4_000_000, "--replication", "2", "--block-size", "1MiB")
        # With as many replicas as there are datanodes, none could leave: nor of what other cases left.
        release.fs("setrep", "2", "/")
        load = Load(release, "life-scale", options="--replication 2")
        release.admin("decommission", leaving)
        kube.until("decommissioned", lambda: release.by_node()[leaving]["state"] == "decommissioned")
        kube.kubectl("label", "node", leaving, "steadfs.dev/test-")
        kube.until(
            "its pod is gone", lambda: leaving not in {pod["spec"].get("nodeName") for pod in release.parts("datanode")}
        )
        same(sum_of(release, "/life-scale"), total, "content")
        load.wait_more(3)
        kube.kubectl("label", "node", leaving, "steadfs.dev/test=yes")
        kube.until("its pod is back", lambda: release.by_node().get(leaving, {}).get("live"))
        release.admin("recommission", leaving)
        kube.until("in service", lambda: release.by_node()[leaving]["state"] == "in service")
        seen = load.end()
    finally:
        kube.kubectl("label", "node", *nodes, "steadfs.dev/test-")
        release.install(**VALUES)
        kube.wait_rolled_out(release.namespace, f"daemonset/{release.name}-datanode")
    release.wait()
    return f"{leaving} left and joined; {seen}"
