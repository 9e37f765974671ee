"""Upgrades of the chart and of the image while programs read and write."""

import kube
from kube import Failed, Load, NotRun


def before(release):
    kube.until("pods are ready", lambda: all(map(kube.is_ready, release.parts("namenode") + release.parts("datanode"))))


def uids(release):
    return {part: {pod["metadata"]["uid"] for pod in release.parts(part)} for part in ("namenode", "datanode")}


def all_new(release, old):
    new = uids(release)
    pods = release.parts("namenode") + release.parts("datanode")
    return not any(old[part] & new[part] for part in old) and all(map(kube.is_ready, pods))


def case_every_pod_is_replaced_under_writers(release):
    """Namenode and datanodes are replaced while two pods write: whatever was acknowledged is there, unchanged."""
    loads = [Load(release, "upgrade-a", kube.nodes()[0]), Load(release, "upgrade-b", kube.nodes()[-1])]
    old = uids(release)
    release.install(**{"namenode.podAnnotations.test/round": "second", "datanode.podAnnotations.test/round": "second"})
    kube.until("every pod is new and ready", lambda: all_new(release, old), limit=600)
    release.wait()
    for load in loads:
        load.wait_more(5)
    seen = [load.end() for load in loads]
    release.wait_healthy()
    return "; ".join(seen)


WRITER = """
exec 3>> /v/log; n=0
while [ ! -e /v/stop ]; do
    echo "$n" >&3 || exit 1
    [ "$(tail -c 20 /v/log | tail -1)" = "$n" ] || { echo "line $n is not there"; exit 1; }
    n=$((n + 1)); sleep 0.05
done
exec 3>&-
[ "$(wc -l < /v/log)" = "$n" ] && seq 0 $((n - 1)) | cmp - /v/log && echo "$n lines"
"""


def case_mounts_live_through_new_pods_of_driver_and_keeper(release):
    """A pod holds a file of a volume open and writes, while both of the node's parts are replaced."""
    space = "steadfs-upgrade"
    storage_class = release.storage_class()
    if not storage_class:
        raise NotRun("the driver is switched off")
    kube.forget(space)
    kube.namespace(space)
    spec = {"storageClassName": storage_class, "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "held"}, "spec": spec}
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "held"}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    writer = kube.pod("writer", WRITER, release.image, volumes=volumes, mounts=mounts, context={"runAsUser": 0})
    kube.apply([claim, writer], space)
    kube.wait_pod(space, "writer", "Running")

    def lines():
        return int(kube.execute(space, "writer", "sh", "-c", "wc -l < /v/log"))

    kube.until("the pod writes", lambda: lines() > 20)
    old = {part: {pod["metadata"]["uid"] for pod in release.parts(part)} for part in ("csi-node", "mount-keeper")}
    release.install(**{"csi.log": "debug"})
    kube.wait_rolled_out(release.namespace, *(f"daemonset/{release.name}-{part}" for part in old))
    for part, uids in old.items():
        if uids & {pod["metadata"]["uid"] for pod in release.parts(part) if kube.is_ready(pod)}:
            raise Failed(f"{part} was not replaced")
    seen = lines()
    kube.until("the pod writes on", lambda: lines() > seen + 20)
    kube.execute(space, "writer", "touch", "/v/stop")
    said = kube.wait_pod(space, "writer")
    kube.forget(space)
    return f"one open file, {said.strip()}"


def case_an_upgrade_that_changes_nothing_restarts_nothing(release):
    values = {"namenode.podAnnotations.test/round": "second", "datanode.podAnnotations.test/round": "second"}
    sets = [f"statefulset/{release.name}-namenode", f"daemonset/{release.name}-datanode"]
    release.install(**values)
    # The case before may have left pods of other values.
    kube.wait_rolled_out(release.namespace, *sets)
    release.wait()
    old = uids(release)
    release.install(**values)
    kube.wait_rolled_out(release.namespace, *sets)
    if uids(release) != old:
        raise Failed("pods were replaced")
    return "no pod was replaced"


def case_values_that_upgrades_change_are_not_immutable(release):
    """Sizes, replication, labels, resources: all that people change later."""
    release.install(
        **{
            "files.replication": "2",
            "commonLabels.team": "data",
            "namenode.resources.limits.memory": "1Gi",
            "datanode.updateStrategy.maxUnavailable": "2",
            "storageClass.default": "false",
            "networkPolicy.enabled": "false",
            "podDisruptionBudget.enabled": "false",
        }
    )
    kube.wait_rolled_out(release.namespace, f"statefulset/{release.name}-namenode", f"daemonset/{release.name}-datanode")
    release.wait()
    kube.execute(
        release.namespace, f"{release.name}-namenode-0", "bash", "-c", "echo x > /tmp/f; steadfs fs put -f /tmp/f /two"
    )
    kube.has(release.fs("stat", "/two", "--json"), '"replication":2')
    return "replication 2 for new files"


def after(release):
    release.install()
    kube.wait_rolled_out(release.namespace, f"statefulset/{release.name}-namenode", f"daemonset/{release.name}-datanode")
    release.wait()
