"""What Kubernetes' suite for external storage drivers asks of one with our capabilities, as cases of our own.

Its groups provisioning, volumes, volumeIO, subPath, multiVolume, volumeMode, fsgroup, readwriteoncepod, volume-stress, volumelimits
and disruptive; growth, ephemeral and static volumes are in volumes.py. What it asks for snapshots, clones and block devices does not apply.
"""

import json

import kube
from kube import Failed, has, same

from cases.volumes import SPACE, bound, claim, delete, driver_of, event_of, folder_of, is_there, of_claim, run

MANY = 6


def before(release):
    kube.forget(SPACE)
    kube.namespace(SPACE)
    kube.wait_rolled_out(release.namespace, f"daemonset/{release.name}-csi-node")


def after(release):
    kube.forget(SPACE)


def volumes_of(*claims):
    """Mounts each claim at `/` and its own name."""
    return {
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims],
        "mounts": [{"name": name, "mountPath": f"/{name}"} for name in claims],
    }


def case_data_and_programs_stay_for_the_next_pod(release):
    first, *_, last = kube.nodes()
    kube.apply(claim(release, "kept", mode="ReadWriteOnce"), SPACE)
    script = "printf '#!/bin/sh\\necho ran\\n' > /v/program; chmod 755 /v/program; /v/program; mkdir /v/d; echo data > /v/d/data"
    has(run(release, "first", script, first, **of_claim("kept")), "ran")
    delete("pod", "first")
    has(run(release, "second", "/v/program; cat /v/d/data; echo more >> /v/d/data", last, **of_claim("kept")), "ran\ndata\n")
    delete("pod", "second")
    same(release.fs("cat", folder_of(bound("kept")) + "/d/data"), "data\nmore\n")
    delete("pvc", "kept")
    return f"written and run on {first}, read, run and continued on {last}"


def case_files_of_several_sizes_are_as_they_were_written(release):
    """Written, overwritten in the middle, read from the start and at a place; by a program that is not root."""
    kube.apply(claim(release, "sizes"), SPACE)
    script = """
set -e; cd /v
for size in 1 4096 1048576 104857600; do
    head -c $size /dev/urandom > /tmp/f; cp /tmp/f f.$size; cmp /tmp/f f.$size
    [ $size -lt 1048576 ] || for file in /tmp/f f.$size; do printf changed | dd of=$file bs=1 seek=500000 conv=notrunc status=none; done
    sync f.$size; cmp /tmp/f f.$size; [ "$(stat -c %s f.$size)" = $size ]; echo "$size $(sha256sum < f.$size)"
done
"""
    context = {"runAsUser": 1000, "runAsNonRoot": True}
    here = run(release, "writer", script, kube.nodes()[0], context=context, **of_claim("sizes"))
    look = "cd /v; for size in 1 4096 1048576 104857600; do echo \"$size $(sha256sum < f.$size)\"; done"
    same(run(release, "reader", look, kube.nodes()[-1], **of_claim("sizes", readOnly=True)), here, "what another node reads")
    delete("pod", "--all")
    delete("pvc", "sizes")
    return "1 byte to 100 MiB"


def case_parts_of_a_volume(release):
    """`subPath`: a folder, a file, one that is not there yet, by a variable, read-only, and after the container started again."""
    kube.apply(claim(release, "parts"), SPACE)
    run(release, "prepare", "mkdir -p /v/folder && echo in > /v/folder/f && echo file > /v/file", **of_claim("parts"))
    script = """
cat /folder/f /file; echo new > /made/f; echo named > /named/f
{ echo no > /locked/f; } 2> /dev/null || echo locked
[ -e /made/started ] && exec sleep infinity; touch /made/started; exit 1
"""
    user = kube.pod("user", script, release.image, restart="OnFailure", env={"WHO": "ann"})
    user["spec"]["volumes"] = of_claim("parts")["volumes"]
    user["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "v", "mountPath": "/folder", "subPath": "folder"},
        {"name": "v", "mountPath": "/file", "subPath": "file"},
        {"name": "v", "mountPath": "/made", "subPath": "not/there/yet"},
        {"name": "v", "mountPath": "/named", "subPathExpr": "of-$(WHO)"},
        {"name": "v", "mountPath": "/locked", "subPath": "folder", "readOnly": True},
    ]
    kube.apply(user, SPACE)

    def again():
        found = kube.get("-n", SPACE, "pod", "user")
        states = found["status"].get("containerStatuses") or [{}]
        return states[0].get("restartCount") and "running" in states[0]["state"]

    kube.until("the container runs again", again)
    same(kube.kubectl("-n", SPACE, "logs", "user"), "in\nfile\nlocked\n")
    folder = folder_of(bound("parts"))
    same(release.fs("cat", f"{folder}/not/there/yet/f") + release.fs("cat", f"{folder}/of-ann/f"), "new\nnamed\n")
    delete("pod", "--all")
    delete("pvc", "parts")
    return "folder, file, made, by a variable, read-only, after a restart"


def case_no_part_leads_outside(release):
    """A volume has no links, so that a `subPath` cannot follow one to the node's own files; `..` is refused."""
    kube.apply(claim(release, "fence"), SPACE)
    script = "for to in /etc ../../../../../../etc; do ln -s $to /v/out || [ ! -e /v/out ] && echo refused; done 2>&1"
    same(run(release, "trick", script, **of_claim("fence")).count("refused\n"), 2, "links that were refused")
    up = kube.pod("up", "ls /v", release.image, **of_claim("fence", subPath="../other"))
    said = kube.kubectl("-n", SPACE, "apply", "-f", "-", text=json.dumps(up), check=False)
    has(said.stderr, "must not contain '..'")
    delete("pod", "trick")
    delete("pvc", "fence")
    return "links are refused in the volume, and `..` by Kubernetes"


def case_several_volumes_and_several_pods(release):
    """Two volumes in a pod, each with its own files; one volume for pods of one node and of others at the same time."""
    node = kube.nodes()[0]
    kube.apply([claim(release, "one"), claim(release, "two")], SPACE)
    mix = "echo 1 > /one/f; echo 2 > /two/f; ls /one /two | tr '\\n' ' '; cat /one/f /two/f"
    has(run(release, "both", mix, node, **volumes_of("one", "two")), "1\n2\n")
    meet = "touch /one/$HOSTNAME; until [ $(ls /one/at-* | wc -l) = 3 ]; do sleep 0.2; done; echo met"
    pods = [kube.pod(f"at-{number}", meet, release.image, node=where, **volumes_of("one")) for number, where in
            enumerate([node, node, kube.nodes()[-1]])]
    kube.apply(pods, SPACE)
    for pod in pods:
        same(kube.wait_pod(SPACE, pod["metadata"]["name"]), "met\n")
    has(run(release, "look", "cat /two/f; ls /two", node, **volumes_of("two")), "2\nf\n")
    delete("pod", "--all")
    delete("pvc", "one", "two")
    return "two volumes in one pod; one volume in two pods of a node and one of another"


def case_a_group_is_given_what_it_needs(release):
    """`fsGroup`: the top folder and what is made below belong to the group; a program of another group is kept out by the mode."""
    kube.apply(claim(release, "group"), SPACE)

    def as_group(name, group, script):
        pod = kube.pod(name, script, release.image, context={"runAsUser": 1000, "runAsNonRoot": True}, **of_claim("group"))
        pod["spec"]["securityContext"] = {"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"}
        kube.apply(pod, SPACE)
        return kube.wait_pod(SPACE, name)

    script = "umask 007; mkdir /v/d; echo x > /v/d/f; stat -c %g /v /v/d /v/d/f"
    same(as_group("first", 2000, script), "2000\n2000\n2000\n")
    script = "cat /v/d/f; echo y >> /v/d/f; stat -c '%u %g' /v/d/f"
    same(as_group("second", 2000, script), "x\n1000 2000\n")
    delete("pod", "--all")
    delete("pvc", "group")
    return "made below by group 2000, for group 2000"


def case_one_pod_alone_has_a_volume_that_says_so(release):
    """ReadWriteOncePod: a second pod waits until the first is gone, on whatever node."""
    kube.apply(claim(release, "alone", mode="ReadWriteOncePod"), SPACE)
    kube.apply(kube.pod("first", "echo 1 > /v/f; exec sleep infinity", release.image, **of_claim("alone")), SPACE)
    kube.wait_pod(SPACE, "first", "Running")
    kube.apply(kube.pod("second", "cat /v/f", release.image, **of_claim("alone")), SPACE)
    said = event_of("second", "ReadWriteOncePod")
    delete("pod", "first")
    same(kube.wait_pod(SPACE, "second"), "1\n")
    delete("pod", "second")
    delete("pvc", "alone")
    return said.splitlines()[0][:120]


def case_many_pods_with_volumes_come_and_go(release):
    """Each with a claim of its own, all at once; deleted and made again, each finds its own files."""
    names = [f"many-{number}" for number in range(MANY)]
    kube.apply([claim(release, name, mode="ReadWriteOnce") for name in names], SPACE)
    script = "echo $HOSTNAME >> /v/names; sync; cat /v/names; exec sleep infinity"
    for turn in range(1, 3):
        kube.apply([kube.pod(name, script, release.image, **of_claim(name)) for name in names], SPACE)
        for name in names:
            kube.wait_pod(SPACE, name, "Running")
            kube.until(f"{name} wrote", lambda name=name: kube.kubectl("-n", SPACE, "logs", name) == f"{name}\n" * turn)
        delete("pod", *names)
    folders = [folder_of(bound(name)) for name in names]
    same(len(set(folders)), MANY, "folders")
    delete("pvc", *names)
    kube.until("their folders are gone", lambda: not any(is_there(release, folder) for folder in folders))
    return f"{MANY} volumes, each twice"


def case_a_node_says_how_many_volumes_it_takes(release):
    driver = driver_of(release)
    counts = {}
    for node in kube.nodes():
        drivers = kube.get("csinode", node)["spec"]["drivers"] or []
        counts[node] = next(one["allocatable"]["count"] for one in drivers if one["name"] == driver)
    if not all(0 < count < 1000 for count in counts.values()):
        raise Failed(f"{counts}")
    return f"{counts}"


def case_a_volume_as_a_block_device_is_refused(release):
    wanted = claim(release, "device")
    wanted["spec"]["volumeMode"] = "Block"
    kube.apply(wanted, SPACE)
    said = event_of("device", "block")
    delete("pvc", "device")
    return said[-160:]


# Only the kubelet itself: the loop that starts it again has another first word.
KUBELET = "kill -{} $(pgrep -f '^steadfs-k8s kubelet ')"


def case_a_kubelet_that_ends_leaves_mounts_alone(release):
    """Programs write on while their node's kubelet is away; a pod deleted meanwhile is cleaned up when it is back."""
    # The file is looked at through the namenode's pod, which needs that one's kubelet.
    home = release.parts("namenode")[0]["spec"]["nodeName"]
    node = next(node for node in kube.nodes() if node != home)
    kube.apply(claim(release, "away"), SPACE)
    script = "n=0; while true; do n=$((n + 1)); echo $n >> /v/lines; sleep 0.1; done"
    kube.apply(kube.pod("writer", script, release.image, node=node, **of_claim("away")), SPACE)
    kube.wait_pod(SPACE, "writer", "Running")
    lines = folder_of(bound("away")) + "/lines"

    def count():
        said = release.fs("cat", lines, check=False)
        return said.stdout.count("\n") if said.returncode == 0 else 0

    kube.until("it writes", lambda: count() > 5)
    kube.Machines.do("exec-node", node, "bash", "-c", KUBELET.format("STOP"))
    try:
        seen = count()
        kube.until("it writes on without a kubelet", lambda: count() > seen + 20)
        kube.kubectl("-n", SPACE, "delete", "pod", "writer", "--wait=false", "--grace-period=1")
    finally:
        kube.Machines.do("exec-node", node, "bash", "-c", KUBELET.format("KILL"))
    kube.until("the kubelet is back", lambda: kube.is_ready_node(node))
    kube.until("the pod is gone", lambda: kube.get("-n", SPACE, "pod", "writer") is None)
    total = count()
    delete("pvc", "away")
    return f"{total} lines, {total - seen} of them after its kubelet stood still"


case_a_kubelet_that_ends_leaves_mounts_alone.needs_machines = True
