"""What goes wrong must be said on the object that people look at, and lose nothing."""

import kube
from kube import Failed, NotRun, Release, has, run, same

BAD_VALUES = {
    "namenode.storge.size=1Gi": "storge",
    "replicas=3": "replicas",
    "datanode.kind=Deployment": "/datanode/kind",
    "files.replication=0": "/files/replication",
    "files.replication=many": "/files/replication",
    "hostRoot=relative/path": "/hostRoot",
    "insecure.simple=false": "insecure.simple",
    "namenode.storage.hostPath=/srv/x": "namenode.storage.node",
    "namenode.storage.size=big": "/namenode/storage/size",
    "datanode.disks[0].kind=tape": "/datanode/disks/0",
    "network.listen=localhost": "/network/listen",
    "csi.sidecars.provisioner.imag=x": "imag",
    "storageClass.reclaimPolicy=Recycle": "/storageClass/reclaimPolicy",
    "folders[0].path=/a b": "/folders/0",
}


def events_of(namespace, name):
    return [
        event["message"] for event in kube.items("-n", namespace, "events") if event["involvedObject"].get("name") == name
    ]


def case_wrong_values_are_refused_by_name(release):
    for value, word in BAD_VALUES.items():
        done = release.helm("template", "x", kube.CHART, "--set", value, check=False)
        if done.returncode == 0:
            raise Failed(f"--set {value} was taken")
        has(done.stderr, word)
    return f"{len(BAD_VALUES)} wrong values"


def case_an_unknown_key_of_the_configuration(release):
    """Keys that the schema cannot know are refused by the process, by name, on the pod."""
    total = kept(release)
    release.install(**{"namenode.config.safe_mode.threshhold": "1"})

    def told():
        for pod in release.parts("namenode"):
            for status in pod["status"].get("containerStatuses", []):
                for state in (status.get("lastState", {}), status.get("state", {})):
                    message = state.get("terminated", {}).get("message", "")
                    if "threshhold" in message:
                        return message
        return None

    try:
        said = kube.until("the pod names the key", told)
    finally:
        release.install()
    repair(release)
    same(kept(release, make=False), total, "content")
    return said.strip().splitlines()[-1][:200]


def repair(release):
    """A StatefulSet waits for a broken pod to become ready before it replaces it; so that pod is deleted."""
    kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0", "--ignore-not-found")
    release.wait()


def kept(release, make=True):
    path = "/badinput-kept"
    script = f"head -c 2000000 /dev/urandom > /tmp/f; steadfs fs put -f /tmp/f {path}; " if make else ""
    script += f"steadfs fs cat {path} | sha256sum"
    return kube.execute(release.namespace, f"{release.name}-namenode-0", "bash", "-c", script).split()[0]


def case_an_image_that_is_missing(release):
    """The pods that are there stay until the new one runs; the new one says which image is missing."""
    total = kept(release)
    release.install(**{"image.tag": "no-such-tag", "datanode.updateStrategy.maxUnavailable": "1"})

    def told():
        for pod in release.parts("datanode"):
            for status in pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", []):
                waiting = status.get("state", {}).get("waiting", {})
                if waiting.get("reason") in {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"}:
                    return f"{pod['metadata']['name']}: {waiting['reason']} {status['image']}"
        return None

    try:
        said = kube.until("the pod names the image", told)
        running = [pod for pod in release.parts("datanode") if kube.is_ready(pod)]
        if len(running) < len(kube.nodes()) - 1:
            raise Failed(f"only {len(running)} datanodes are left")
    finally:
        release.install()
    repair(release)
    kube.wait_rolled_out(release.namespace, f"daemonset/{release.name}-datanode")
    release.wait()
    same(kept(release, make=False), total, "content")
    return said


def case_a_host_path_of_another_cluster(release):
    """Two clusters on one folder: the second one's datanodes refuse, say why, and touch nothing."""
    total = kept(release)
    folder = f"/var/lib/steadfs/{release.namespace}/{release.name}/data"
    other = Release(release.image, name="taken", namespace="steadfs-taken")
    try:
        other.install(**{"datanode.disks[0].path": folder, "csi.enabled": "false", "watch.enabled": "false"})

        def told():
            for pod in other.parts("datanode"):
                for status in pod["status"].get("containerStatuses", []):
                    for state in (status.get("lastState", {}), status.get("state", {})):
                        message = state.get("terminated", {}).get("message", "")
                        if message:
                            return message.strip().splitlines()[-1]
            return None

        said = kube.until("the pod says that the folder is taken", told)
        same(other.report()["live_datanodes"], 0, "datanodes of the second cluster")
    finally:
        other.forget()
    release.wait()
    same(kept(release, make=False), total, "content")
    release.wait_healthy()
    return said[:250]


def case_the_rights_of_the_namenode_are_taken_away(release):
    """Without its ClusterRole the namenode serves on, and says that it cannot look at pods and nodes."""
    name = f"{release.namespace}-{release.name}-namenode"
    if not kube.get("clusterrolebinding", name):
        raise NotRun("the node watch is switched off")
    total = kept(release)
    kube.kubectl("delete", "clusterrolebinding", name)
    try:
        kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0")
        release.wait()
        same(kept(release, make=False), total, "content")

        def told():
            log = kube.kubectl("-n", release.namespace, "logs", f"{release.name}-namenode-0")
            return next(
                (
                    line
                    for line in log.splitlines()
                    if "forbidden" in line.lower() or "Kubernetes" in line and "WARN" in line
                ),
                None,
            )

        said = kube.until("the namenode's log says it", told)
    finally:
        release.install()
    release.wait()
    return said[-220:]


def claim(name, storage_class, size, mode="ReadWriteMany"):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"storageClassName": storage_class, "accessModes": [mode], "resources": {"requests": {"storage": size}}},
    }


def driver_of(release):
    """The driver of the release; None if it is switched off."""
    storage_class = release.storage_class()
    return storage_class and kube.get("storageclass", storage_class)["provisioner"]


def case_a_storage_class_with_an_unknown_parameter(release):
    driver = driver_of(release)
    if not driver:
        raise NotRun("the driver is switched off")
    space = "steadfs-badinput"
    kube.namespace(space)
    kube.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "bad-parameter"},
            "provisioner": driver,
            "parameters": {"replicas": "3"},
        }
    )
    try:
        kube.apply(claim("bad", "bad-parameter", "1Gi"), space)
        said = kube.until(
            "an event of the claim names the parameter",
            lambda: next((m for m in events_of(space, "bad") if "replicas" in m), None),
        )
        same(kube.get("-n", space, "pvc", "bad")["status"]["phase"], "Pending", "the claim")
        return said[:250]
    finally:
        kube.kubectl("delete", "storageclass", "bad-parameter", "--ignore-not-found")
        kube.forget(space)


def case_a_claim_larger_than_the_cluster(release):
    driver = driver_of(release)
    if not driver:
        raise NotRun("the driver is switched off")
    space = "steadfs-badinput"
    storage_class = release.storage_class()
    kube.namespace(space)
    try:
        kube.apply(claim("huge", storage_class, "9Ei"), space)
        said = kube.until(
            "an event of the claim tells of the space",
            lambda: next((text for text in events_of(space, "huge") if "than the cluster has" in text), None),
        )
        same(kube.get("-n", space, "pvc", "huge")["status"]["phase"], "Pending", "the claim")
        return said[:250]
    finally:
        kube.forget(space)


def case_a_datanode_that_finds_no_namenode(release):
    """A pod that waits for its namenode is not ready, and its log says for whom it waits."""
    kube.kubectl("-n", release.namespace, "scale", f"statefulset/{release.name}-namenode", "--replicas=0")
    try:
        kube.until("no namenode", lambda: not release.parts("namenode"))
        pod = release.parts("datanode")[0]["metadata"]["name"]
        kube.kubectl("-n", release.namespace, "delete", "pod", pod)

        def told():
            for pod in release.parts("datanode"):
                if kube.is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
                    continue
                log = kube.kubectl(
                    "-n", release.namespace, "logs", pod["metadata"]["name"], "-c", "datanode", check=False
                ).stdout
                line = next(
                    (
                        line
                        for line in log.splitlines()
                        if "cannot register" in line or "namenode" in line and "WARN" in line
                    ),
                    None,
                )
                if line:
                    return line
            return None

        said = kube.until("the pod is not ready and says why", told)
    finally:
        kube.kubectl("-n", release.namespace, "scale", f"statefulset/{release.name}-namenode", "--replicas=1")
    release.wait()
    return said[-200:]


def after(release):
    for namespace in ("steadfs-badinput", "steadfs-taken"):
        run("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
