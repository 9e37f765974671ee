"""Installation: with no values, in several forms, twice beside each other, and what a chart must be."""

import json
import time

import kube
from kube import Failed, Load, NotRun, Release, has, same

ALONE = True


def case_nothing_but_an_image_to_the_first_file(release):
    release.forget()
    began = time.monotonic()
    release.install()
    release.wait()
    kube.execute(
        release.namespace, f"{release.name}-namenode-0", "bash", "-c", "echo hello > /tmp/f; steadfs fs put /tmp/f /first"
    )
    took = time.monotonic() - began
    same(release.fs("cat", "/first"), "hello\n")
    kube.until("its pods are ready", lambda: all(map(kube.is_ready, release.parts("namenode") + release.parts("datanode"))))
    return f"first file {took:.0f} s after `helm install`, on {len(kube.nodes())} nodes"


def case_test_hook_writes_and_reads_through_the_doors(release):
    said = release.helm("test", release.name, "--logs", limit=300)
    has(said, "our own protocol: 3000000 bytes written and read")
    has(said, "WebHDFS: 3000000 bytes read")
    return " ".join(line for line in said.splitlines() if "3000000" in line)


def case_folders_for_everybody_are_there(release):
    def look():
        found = {}
        for line in release.fs("ls", "--json", "/").splitlines():
            entry = json.loads(line)
            found[entry["path"]] = entry["permission"] if "permission" in entry else entry["mode"]
        return found.keys() >= {"/tmp", "/user"} and found

    return kube.until("/tmp and /user", look)


def case_racks_are_the_nodes_zones(release):
    zones = {n["metadata"]["name"]: n["metadata"]["labels"].get("topology.kubernetes.io/zone") for n in kube.items("nodes")}
    if not all(zones.values()):
        raise NotRun("the nodes have no zones")

    def look():
        racks = {node: datanode["rack"] for node, datanode in release.by_node().items()}
        return racks == {node: f"/{zone}" for node, zone in zones.items()} and racks

    return kube.until("racks", look)


def case_every_object_is_namespaced_by_its_release(release):
    """Two releases beside each other: files of the one are not seen by the other, and their objects do not meet."""
    other = Release(release.image, name="second", namespace="steadfs-second")
    try:
        other.install()
        other.wait()
        kube.execute(
            other.namespace, "second-namenode-0", "bash", "-c", "echo 2 > /tmp/f; steadfs fs put /tmp/f /of-the-second"
        )
        release.wait()
        has(release.fs("ls", "/"), "first\n")
        if "of-the-second" in release.fs("ls", "/") or "first\n" in other.fs("ls", "/"):
            raise Failed("the releases see each other's files")
        drivers = [driver["metadata"]["name"] for driver in kube.items("csidrivers")]
        classes = [one["metadata"]["name"] for one in kube.items("storageclasses")]
        return f"drivers {drivers}, classes {classes}"
    finally:
        other.forget()


def case_renders_are_identical_and_the_server_takes_them(release):
    """As GitOps renders: without a cluster, and the same each time."""
    forms = {
        "no values": {},
        "claims": {
            "datanode.kind": "StatefulSet",
            "namenode.storage.journalCopySize": "1Gi",
            "csi.controller.replicas": "2",
        },
        "host path": {"namenode.storage.hostPath": "/srv/steadfs", "namenode.storage.node": "node-1"},
        "other kubelet": {
            "kubeletRoot": "/var/snap/kubelet",
            "network.listen": "[::]",
            "network.ipFamilyPolicy": "PreferDualStack",
        },
        "no rights for the cluster": {
            "watch.namespaces": "{default}",
            "csi.enabled": "false",
            "namenode.service.headless": "true",
        },
    }
    for name, values in forms.items():
        renders = [
            release.helm("template", release.name, kube.CHART, "--skip-tests", *release.values(**values)) for _ in range(2)
        ]
        same(renders[0], renders[1], name)
        kube.kubectl(
            "create",
            "--dry-run=server",
            "-n",
            "default",
            "-f",
            "-",
            text=renders[0]
            .replace(f"namespace: {release.namespace}", "namespace: default")
            .replace(f"name: {release.namespace}-", "name: dry-run-")
            .replace("name: csi.steadfs.dev", "name: dry.csi.steadfs.dev")
            .replace("name: steadfs\n", "name: dry-run\n"),
        )
    release.helm("lint", kube.CHART)
    return f"{len(forms)} forms"


def case_pods_hold_to_the_restricted_level_where_they_can(release):
    """What a namespace of the level `restricted` would say of each pod. Only the node's parts may need more."""
    loose = {}
    for pod in kube.items("-n", release.namespace, "pods", "-l", f"app.kubernetes.io/instance={release.name}"):
        part = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for container in pod["spec"]["containers"]:
            context = {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}
            if context.get("privileged") or context.get("runAsUser") == 0 or not context.get("runAsNonRoot"):
                loose.setdefault(part, set()).add(container["name"])
    if set(loose) - {"csi-node", "mount-keeper"}:
        raise Failed(f"{loose}")
    return f"root only in { ({part: sorted(names) for part, names in loose.items()}) }"


def case_datanodes_as_a_statefulset_on_claims(release):
    other = Release(release.image, name="claims", namespace="steadfs-claims")
    values = {
        "datanode.kind": "StatefulSet",
        "datanode.replicas": "2",
        "datanode.claims[0].size": "1Gi",
        "datanode.claims[0].kind": "ssd",
        "datanode.claims[1].size": "1Gi",
        "namenode.storage.journalCopySize": "1Gi",
        "csi.enabled": "false",
    }
    try:
        other.install(**values)
        other.wait(datanodes=2)
        kinds = sorted(storage["kind"].lower() for d in other.report()["datanodes"] for storage in d["storages"])
        same(kinds, ["disk", "disk", "ssd", "ssd"], "volumes")
        before = {datanode["uuid"] for datanode in other.report()["datanodes"]}
        kube.execute(
            other.namespace,
            "claims-namenode-0",
            "bash",
            "-c",
            "head -c 9000000 /dev/zero > /tmp/f; steadfs fs put /tmp/f /f",
        )
        old = {pod["metadata"]["uid"] for pod in other.parts("datanode")}
        kube.kubectl("-n", other.namespace, "delete", "pod", "claims-datanode-0", "claims-datanode-1")
        kube.until(
            "both are new",
            lambda: (
                len(other.parts("datanode")) == 2
                and not {p["metadata"]["uid"] for p in other.parts("datanode")} & old
                and all(map(kube.is_ready, other.parts("datanode")))
            ),
        )
        other.wait(datanodes=2)
        same({datanode["uuid"] for datanode in other.report()["datanodes"]}, before, "identities")
        same(len(other.fs("cat", "/f")), 9000000, "bytes")
        return f"two datanodes with two volumes each; new pods, the same identities {sorted(one[:8] for one in before)}"
    finally:
        other.forget()


def case_what_pods_take_when_nothing_happens(release):
    """Memory and share of a core of each part, over a quiet half minute."""
    release.wait_healthy()
    return kube.while_it_lasts(release, 30)


def case_what_pods_take_under_load(release):
    """The same while a pod of each node writes files with our client, and one more reads them all, again and again."""
    loads = [Load(release, f"taken-{number}", node) for number, node in enumerate(kube.nodes())]
    read = "while true; do steadfs fs cat \"/load/taken-*/*\" > /dev/null 2>&1; done"
    reader = kube.pod("taken-reader", read, release.image, env={"STEADFS_URL": release.url, "HADOOP_USER_NAME": "steadfs"})
    kube.apply(reader, release.namespace)
    kube.wait_pod(release.namespace, "taken-reader", "Running")
    try:
        taken = kube.while_it_lasts(release, 30)
        written = "; ".join(load.end() for load in loads)
    finally:
        kube.kubectl("-n", release.namespace, "delete", "pod", "taken-reader", "--wait=false")
    return f"{taken}\n{written}"
