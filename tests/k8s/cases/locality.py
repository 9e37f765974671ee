"""Pods write and read on their own nodes: no plugin, no node's network, any client."""

import json
import re
import time

import kube
import spark_jobs

SPACE = "steadfs-locality"
SIZE = 48 << 20
# What a reader may get elsewhere: nothing but the odd packet.
LEAST_LOCAL = 95.0
HEARTBEAT = 3
# The shell insists on a core-site.xml; there is nothing in it.
HADOOP = "java -XX:TieredStopAtLevel=1 -cp '/tmp/conf:/opt/spark/jars/*' org.apache.hadoop.fs.FsShell"
CONF = "mkdir -p /tmp/conf && echo '<configuration/>' > /tmp/conf/core-site.xml"


def before(release):
    spark_jobs.load_image(spark_jobs.VERSIONS[0])
    kube.forget(SPACE)
    kube.namespace(SPACE)
    release.fs("mkdir", "-p", "/near")
    release.fs("chmod", "1777", "/near")


def after(release):
    kube.forget(SPACE)
    release.fs("rm", "-r", "-f", "--skip-trash", "/near", check=False)


def served(release):
    """Bytes that datanodes sent to readers on their own node, and elsewhere, by the datanodes' own count."""
    sums = {"local": 0, "remote": 0}
    for pod in release.parts("datanode"):
        page = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{release.namespace}/pods/{pod['metadata']['name']}:9864/proxy/metrics")
        for where, count in re.findall(r'datanode_served_bytes_total\{peer="(\w+)"\} (\d+)', page):
            sums[where] += int(count)
    return sums


def metric(release, name):
    page = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{release.namespace}/pods/{release.name}-namenode-0:9870/proxy/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found.group(1)) if found else None


def nodes_of(release, path):
    """The nodes of each block's replicas, in the order in which a reader outside would get them."""
    places = {pod["status"]["podIP"]: pod["spec"]["nodeName"] for pod in release.parts("datanode")}
    done = release.admin("fsck", "--all", "--json", path, check=False)
    text = done.stdout
    blocks = re.findall(r"(\d+\.\d+\.\d+\.\d+):9866", text)
    return {places[address] for address in blocks}


def on_each_node(script, image, name):
    """
    Runs a script in a pod on every node; what it wrote, by node. It runs when the pod is known: the namenode hears of a
    pod's address when Kubernetes does, and the datanodes with the next heartbeats, which nothing shows.
    """
    for number, node in enumerate(kube.nodes()):
        kube.apply(kube.pod(f"{name}-{number}", "exec sleep infinity", image, node=node,
                            env={"HADOOP_USER_NAME": "somebody"}), SPACE)
    said = {}
    for number, node in enumerate(kube.nodes()):
        kube.wait_pod(SPACE, f"{name}-{number}", "Running")
        time.sleep(2 * HEARTBEAT)
        said[node] = kube.execute(SPACE, f"{name}-{number}", "bash", "-ec", script.replace("NODE", node))
    for number in range(len(said)):
        kube.kubectl("-n", SPACE, "delete", "pod", f"{name}-{number}")
    return said


def case_racks_are_the_labels_of_nodes(release):
    zones = {node["metadata"]["name"]: "/" + node["metadata"]["labels"].get("topology.kubernetes.io/zone", "default-rack")
             for node in kube.items("nodes")}

    def look():
        found = {name: datanode["rack"] for name, datanode in release.by_node().items()}
        kube.same(found, zones, "racks")
        return found

    return kube.until("racks are the zones of nodes", look)


def case_the_first_replica_is_on_the_writers_node(release):
    """One replica, so that it is the first: with our client, and with stock Hadoop's FsShell."""
    ours = f"head -c {SIZE} /dev/zero > /tmp/f && steadfs fs put --force --fs {release.url} --quiet --replication 1 /tmp/f /near/ours-NODE"
    stock = (f"{CONF} && head -c {SIZE} /dev/zero > /tmp/f && {HADOOP} -D dfs.replication=1 -put -f /tmp/f {release.url}/near/stock-NODE")
    on_each_node(ours, release.image, "ours")
    on_each_node(stock, spark_jobs.image(spark_jobs.VERSIONS[0]), "stock")
    for node in kube.nodes():
        for kind in ("ours", "stock"):
            kube.same(nodes_of(release, f"/near/{kind}-{node}"), {node}, f"where {kind}-{node} is")
    return f"{2 * len(kube.nodes())} files, each on its writer's node"


def case_what_a_pod_writes_to_a_volume_is_on_its_node(release):
    """A volume may be used anywhere and says so; its topology only decides where the first replica lies."""
    driver = kube.get("storageclass", release.storage_class())["provisioner"]
    kube.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "steadfs-near"},
                "provisioner": driver, "parameters": {"replication": "1", "parent": "/near/volumes"}})
    try:
        kube.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "near"},
                    "spec": {"storageClassName": "steadfs-near", "accessModes": ["ReadWriteMany"],
                             "resources": {"requests": {"storage": "1Gi"}}}}, SPACE)
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "near"}}]
        mounts = [{"name": "v", "mountPath": "/v"}]
        for number, node in enumerate(kube.nodes()):
            script = f"head -c {SIZE} /dev/zero > /v/by-{node}; sync"
            kube.apply(kube.pod(f"near-{number}", script, release.image, node=node, volumes=volumes, mounts=mounts), SPACE)
            kube.wait_pod(SPACE, f"near-{number}")
        volume = kube.get("pv", kube.get("-n", SPACE, "pvc", "near")["spec"]["volumeName"])
        kube.same(volume["spec"].get("nodeAffinity"), None, "nodes that the volume is bound to")
        folder = volume["spec"]["csi"]["volumeAttributes"]["folder"]
        for node in kube.nodes():
            kube.same(nodes_of(release, f"{folder}/by-{node}"), {node}, f"where the file by {node} is")
        kube.kubectl("-n", SPACE, "delete", "pod", *(f"near-{number}" for number in range(len(kube.nodes()))))
        kube.kubectl("-n", SPACE, "delete", "pvc", "near", "--wait=true", limit=150)
    finally:
        kube.kubectl("delete", "storageclass", "steadfs-near", "--ignore-not-found")
    return f"{len(kube.nodes())} files of one volume, each on its writer's node; no node is forbidden"


def case_reads_are_served_by_the_readers_node(release):
    """A file with a replica on each node, read by pods on each."""
    script = f"head -c {SIZE} /dev/urandom > /tmp/f && steadfs fs put --force --fs {release.url} --quiet --replication {min(3, len(kube.nodes()))} /tmp/f /near/all"
    kube.apply(kube.pod("writer", script, release.image, env={"HADOOP_USER_NAME": "somebody"}), SPACE)
    kube.wait_pod(SPACE, "writer")
    seen = []
    for kind, image, command in (
        ("our client", release.image, f"steadfs fs cat --fs {release.url} /near/all"),
        ("FsShell", spark_jobs.image(spark_jobs.VERSIONS[0]), f"{CONF} && {HADOOP} -cat {release.url}/near/all"),
    ):
        start = served(release)
        logs = on_each_node(f"{command} | wc -c", image, "reader" if kind == "our client" else "stock-reader")
        for node, log in logs.items():
            kube.same(int(log.split()[-1]), SIZE, f"bytes read on {node}")
        end = served(release)
        local, remote = (end[where] - start[where] for where in ("local", "remote"))
        if 100 * local < LEAST_LOCAL * (local + remote) or local < SIZE * len(logs):
            raise kube.Failed(f"{kind}: {local} bytes from the own node, {remote} from others")
        seen.append(f"{kind}: {local} bytes from the own node, {remote} from others")
    return "\n".join(seen)


def case_a_cordoned_node_rests(release):
    """Its datanode goes into maintenance, and serves again when the node is uncordoned."""
    node = kube.nodes()[-1]

    kube.kubectl("cordon", node)
    try:
        kube.until(f"the datanode of {node} rests", lambda: "maintenance" in json.dumps(release.by_node()[node]).lower())
    finally:
        kube.kubectl("uncordon", node)
    kube.until(f"the datanode of {node} serves", lambda: "maintenance" not in json.dumps(release.by_node()[node]).lower())


def case_without_rights_what_was_known_holds(release):
    """The right to see pods is taken from the namenode, which says so and goes on; and comes back."""
    account = f"{release.name}-namenode"
    bindings = [binding for binding in kube.items("clusterrolebindings")
                if any(subject.get("name") == account and subject.get("namespace") == release.namespace
                       for subject in binding.get("subjects") or [])]
    if not bindings:
        raise kube.Failed(f"no binding of {account}")
    for binding in bindings:
        kube.kubectl("delete", "clusterrolebinding", binding["metadata"]["name"])
    try:
        # A watch that runs is cut by a restart of the namenode, and then refused.
        kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0")
        release.wait()
        refused = 'steadfs_namenode_kubernetes_watch_errors_total{resource="pods"}'
        kube.until("the refusal is counted", lambda: (metric(release, refused) or 0) > 0)
        kube.has(release.fs("ls", "/"), "near")
    finally:
        for binding in bindings:
            for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
                binding["metadata"].pop(key, None)
            kube.apply(binding)
    synced = 'steadfs_namenode_kubernetes_synced{resource="pods"}'
    kube.until("pods are known again", lambda: metric(release, synced) == 1)
