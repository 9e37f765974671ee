"""Volumes: claims, growth, inline and static volumes, and mounts that outlive the driver's pods."""

import json
import time

import kube
from kube import Failed, has, same

SPACE = "steadfs-volumes"
SIZE = 1 << 30


def claim(release, name, mode="ReadWriteMany", size="1Gi", storage_class=None):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": storage_class or release.storage_class(),
            "accessModes": [mode],
            "resources": {"requests": {"storage": size}},
        },
    }


def of_claim(name, at="/v", **more):
    return {
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
        "mounts": [{"name": "v", "mountPath": at, **more}],
    }


def run(release, name, script, node=None, **more):
    """Runs a pod to its end; its log."""
    kube.apply(kube.pod(name, script, release.image, node=node, **more), SPACE)
    return kube.wait_pod(SPACE, name)


def bound(name):
    """The volume of a claim, once it has one."""

    def look():
        found = kube.get("-n", SPACE, "pvc", name)
        return found and found["status"].get("phase") == "Bound" and found["spec"]["volumeName"]

    return kube.get("pv", kube.until(f"{name} bound", look))


def folder_of(volume):
    return volume["spec"]["csi"]["volumeAttributes"]["folder"]


def is_there(release, folder):
    return release.fs("stat", folder, check=False).returncode == 0


def delete(*what):
    kube.kubectl("-n", SPACE, "delete", *what, "--wait=true", "--grace-period=1", limit=150)


def event_of(what, part):
    """Waits for an event of an object that says something; what it says."""

    def look():
        events = kube.items("-n", SPACE, "events", "--field-selector", f"involvedObject.name={what}")
        return next((event["message"] for event in events if part in (event.get("message") or "")), None)

    return kube.until(f"an event of {what} with `{part}`", look)


def on_node(release, node, script):
    """Runs a script in the driver's pod of a node."""
    pod = next(pod for pod in release.parts("csi-node") if pod["spec"]["nodeName"] == node)
    return kube.execute(release.namespace, pod["metadata"]["name"], "bash", "-c", script, check=False).stdout


def mounts_of(release, node):
    """Places of a node where volumes of this release are mounted."""
    table = on_node(release, node, "cat /proc/self/mountinfo")
    return [line.split()[4] for line in table.splitlines() if "fuse.steadfs" in line and release.url in line]


def driver_of(release):
    return kube.get("storageclass", release.storage_class())["provisioner"]


def before(release):
    kube.forget(SPACE)
    kube.kubectl("delete", "pv", "steadfs-static", "--ignore-not-found", "--wait=true")
    kube.namespace(SPACE)
    kube.kubectl("-n", release.namespace, "rollout", "status", f"daemonset/{release.name}-csi-node", "--timeout=120s", limit=150)


def case_a_claim_is_a_folder_for_pods_on_all_nodes(release):
    kube.apply(claim(release, "shared"), SPACE)
    for number, node in enumerate(kube.nodes()):
        run(release, f"writer-{number}", f"echo from {number} > /v/f{number}; ls /v", node, **of_claim("shared"))
    said = run(release, "reader", "cat /v/*; df -B1 --output=size /v | tail -1", **of_claim("shared"))
    for number in range(len(kube.nodes())):
        has(said, f"from {number}\n")
    same(int(said.split()[-1]), SIZE, "the size that df tells")
    folder = folder_of(bound("shared"))
    delete("pod", "--all")
    delete("pvc", "shared")
    kube.until("the folder is gone", lambda: not is_there(release, folder))
    return folder


def case_a_volume_grows_while_a_pod_has_it(release):
    kube.apply(claim(release, "growing"), SPACE)
    kube.apply(kube.pod("user", "exec sleep infinity", release.image, **of_claim("growing")), SPACE)
    kube.wait_pod(SPACE, "user", "Running")
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    kube.kubectl("-n", SPACE, "patch", "pvc", "growing", "-p", patch)

    def look():
        found = kube.get("-n", SPACE, "pvc", "growing")
        return found["status"]["capacity"]["storage"] == "3Gi"

    kube.until("the claim has 3Gi", look)

    def size():
        return int(kube.execute(SPACE, "user", "df", "-B1", "--output=size", "/v").split()[-1])

    kube.until("df tells 3Gi", lambda: size() == 3 * SIZE)
    delete("pod", "user")
    delete("pvc", "growing")
    return "1Gi, then 3Gi, under a running pod"


def case_volumes_of_a_pod_go_with_it(release):
    """CSI inline and generic ephemeral volumes."""
    driver = driver_of(release)
    template = claim(release, "x")["spec"]
    volumes = [
        {"name": "inline", "csi": {"driver": driver, "volumeAttributes": {"size": "100Mi"}}},
        {"name": "generic", "ephemeral": {"volumeClaimTemplate": {"spec": template}}},
    ]
    mounts = [{"name": "inline", "mountPath": "/inline"}, {"name": "generic", "mountPath": "/generic"}]
    script = "echo x > /inline/f; echo y > /generic/f; cat /inline/f /generic/f; exec sleep infinity"
    kube.apply(kube.pod("scratch", script, release.image, volumes=volumes, mounts=mounts), SPACE)
    kube.wait_pod(SPACE, "scratch", "Running")
    node = kube.get("-n", SPACE, "pod", "scratch")["spec"]["nodeName"]
    inline = f"/volumes/.inline/{node}"
    kube.until("an inline folder", lambda: "csi-" in release.fs("ls", inline))
    volume = bound("scratch-generic")
    delete("pod", "scratch")
    kube.until("the inline folder is gone", lambda: "csi-" not in release.fs("ls", inline))
    kube.until("the generic folder is gone", lambda: not is_there(release, folder_of(volume)))
    return "made with the pod, gone with it"


def case_a_folder_that_exists_is_a_static_volume(release):
    driver = driver_of(release)
    release.fs("mkdir", "-p", "/data/static")
    release.fs("chmod", "777", "/data/static")
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "steadfs-static"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "csi": {"driver": driver, "volumeHandle": "data-static", "volumeAttributes": {"folder": "/data/static"}},
            "claimRef": {"namespace": SPACE, "name": "static"},
        },
    }
    wanted = claim(release, "static")
    wanted["spec"].update(storageClassName="", volumeName="steadfs-static")
    kube.apply([volume, wanted], SPACE)
    run(release, "static", "mkdir -p /v/sub && echo x > /v/sub/f", **of_claim("static"))
    said = run(release, "part", "cat /v/f; touch /v/g 2>/dev/null || echo refused", **of_claim("static", subPath="sub", readOnly=True))
    has(said, "x\n")
    has(said, "refused\n")
    same(release.fs("cat", "/data/static/sub/f"), "x\n")
    delete("pod", "--all")
    delete("pvc", "static")
    kube.kubectl("delete", "pv", "steadfs-static", "--wait=true")
    if not is_there(release, "/data/static/sub/f"):
        raise Failed("a static volume's folder went with its claim")
    return "/data/static, whole and by subPath, read-only"


WRITER = """
cd /v; exec 3>stream; n=0
while [ ! -e /tmp/stop ]; do
    n=$((n + 1)); printf '%08d\\n' $n >&3 || { echo "write $n failed"; exit 1; }
    head -c 5 stream >/dev/null || { echo "read $n failed"; exit 1; }
    [ $((n % 20)) -ne 0 ] || { cp stream copy.part && mv copy.part copy; } || { echo "copy $n failed"; exit 1; }
    echo $n > /tmp/n; sleep 0.02
done
exec 3>&-; [ "$(wc -l < stream)" = $n ] || { echo "$n written, $(wc -l < stream) there"; exit 1; }
[ "$(sort -c stream && tail -1 stream)" = "$(printf '%08d' $n)" ] || exit 1
echo written $n
"""


def written():
    return int(kube.execute(SPACE, "writer", "cat", "/tmp/n", check=False).stdout.strip() or 0)


def goes_on(what):
    count = written()
    kube.until(f"the writer goes on after {what}", lambda: written() > count + 20)


def case_mounts_outlive_the_drivers_pods(release):
    """A pod with a file open writes on while the driver's pods, and the keepers of descriptors, are deleted beneath it."""
    kube.apply(claim(release, "lasting"), SPACE)
    kube.apply(kube.pod("writer", WRITER, release.image, **of_claim("lasting")), SPACE)
    kube.wait_pod(SPACE, "writer", "Running")
    kube.until("something is written", lambda: written() > 20)
    waits = []
    for part in ["csi-node", "mount-keeper", "csi-node"]:
        names = [pod["metadata"]["name"] for pod in release.parts(part)]
        began = time.monotonic()
        kube.kubectl("-n", release.namespace, "delete", "pod", *names, "--wait=true", limit=150)
        kube.kubectl("-n", release.namespace, "rollout", "status", f"daemonset/{release.name}-{part}", "--timeout=120s", limit=150)
        goes_on(f"{part} was deleted")
        # The descriptors must be with the new keeper before the driver goes again.
        time.sleep(2)
        waits.append(f"{part} {time.monotonic() - began:.0f} s")
    kube.execute(SPACE, "writer", "touch", "/tmp/stop")
    said = kube.wait_pod(SPACE, "writer")
    has(said, "written ")
    delete("pod", "writer")
    delete("pvc", "lasting")
    return f"{said.strip().splitlines()[-1]}; {', '.join(waits)}"


def case_what_cannot_be_is_said_on_the_claim(release):
    driver = driver_of(release)
    classes = {"steadfs-wrong": {"replicas": "3"}, "steadfs-outside": {"parent": "/a/../b"}}
    for name, parameters in classes.items():
        kube.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                    "provisioner": driver, "parameters": parameters})
    try:
        kube.apply(claim(release, "wrong", storage_class="steadfs-wrong"), SPACE)
        kube.apply(claim(release, "outside", storage_class="steadfs-outside"), SPACE)
        kube.apply(claim(release, "huge", size="900Ti"), SPACE)
        told = [event_of("wrong", "`replicas`"), event_of("outside", "`parent`"), event_of("huge", "more than the cluster has")]
        delete("pvc", "wrong", "outside", "huge")
        return "\n".join(told)
    finally:
        kube.kubectl("delete", "storageclass", *classes, "--ignore-not-found")


def case_a_node_that_lost_its_power_has_its_volumes_again(release):
    """Nothing is stuck after it: the old pod goes, a new one on that node reads what was closed before, and writes."""
    node = kube.nodes()[-1]
    kube.apply(claim(release, "powered"), SPACE)
    script = "echo kept > /v/closed; exec 3>/v/open; echo half >&3; exec sleep infinity"
    kube.apply(kube.pod("before", script, release.image, node=node, **of_claim("powered")), SPACE)
    kube.wait_pod(SPACE, "before", "Running")
    kube.until("it is written", lambda: is_there(release, folder_of(bound("powered")) + "/closed"))
    kube.Machines.kill(node)
    kube.Machines.start(node)
    release.wait()
    delete("pod", "before")
    has(run(release, "after", "cat /v/closed; echo more > /v/more; cat /v/more", node, **of_claim("powered")), "kept\nmore\n")
    delete("pod", "after")
    delete("pvc", "powered")
    return node


case_a_node_that_lost_its_power_has_its_volumes_again.needs_machines = True


def case_nothing_is_left(release):
    """No mount, no server, no folder of a volume once all pods and claims are gone."""
    kube.kubectl("-n", SPACE, "delete", "pod,pvc", "--all", "--wait=true", "--grace-period=1", limit=150)
    left = {}

    def look():
        left.clear()
        for node in kube.nodes():
            servers = on_node(release, node, "grep -lszx [s]erver /proc/[0-9]*/cmdline | wc -l")
            left[node] = (servers.strip(), mounts_of(release, node))
        return all(servers == "0" and not mounts for servers, mounts in left.values())

    try:
        kube.until("no server and no mount", look)
    except Failed as late:
        raise Failed(f"{late}: {left}") from None
    return f"{len(left)} nodes"


def after(release):
    kube.forget(SPACE)
