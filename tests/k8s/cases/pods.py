"""Pods of other kinds: writers and readers of one volume, a CronJob, a namespace of the level `restricted`."""

import kube
from kube import has, same

SPACE = "steadfs-pods"


def claim(release, name, mode="ReadWriteMany"):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": release.storage_class(),
            "accessModes": [mode],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def mounted(name, at="/v", **more):
    return {
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
        "mounts": [{"name": "v", "mountPath": at, **more}],
    }


def before(release):
    kube.forget(SPACE)
    kube.namespace(SPACE, **{"pod-security.kubernetes.io/enforce": "restricted"})
    kube.apply(claim(release, "shared"), SPACE)


def case_readers_on_other_nodes_see_what_a_writer_closed(release):
    """One pod writes and renames files, three on other nodes read each as soon as it has its name: whole, or not at all."""
    write = """
cd /v; for n in $(seq 40); do head -c $((n * 20011)) /dev/urandom > .part; sha256sum < .part | cut -d' ' -f1 > sum.$n; mv .part file.$n; done
touch complete; sync; echo wrote 40; exec sleep infinity
"""
    read = """
cd /v; for n in $(seq 40); do
    until [ -e file.$n ]; do sleep 0.1; done
    [ "$(sha256sum < file.$n | cut -d' ' -f1)" = "$(cat sum.$n)" ] || { echo "file.$n differs"; exit 1; }
done; until [ -e complete ]; do sleep 0.1; done; echo read 40
"""
    names = kube.nodes()
    context = kube.restricted()
    common = {"context": context, **mounted("shared")}
    writer = kube.pod("writer", write, release.image, node=names[0], **common)
    writer["spec"]["securityContext"] = {"fsGroup": 8020}
    readers = []
    for number in range(3):
        reader = kube.pod(f"reader-{number}", read, release.image, node=names[(number + 1) % len(names)], **common)
        reader["spec"]["securityContext"] = {"fsGroup": 8020}
        readers.append(reader)
    kube.apply([writer, *readers], SPACE)
    for number in range(3):
        has(kube.wait_pod(SPACE, f"reader-{number}"), "read 40")
    has(kube.kubectl("-n", SPACE, "logs", "writer"), "wrote 40")
    places = sorted({pod["spec"]["nodeName"] for pod in kube.items("-n", SPACE, "pods")})
    kube.kubectl("-n", SPACE, "delete", "pod", "--all")
    return f"40 files on {len(places)} nodes, in a namespace of the level restricted"


def case_a_cron_job_writes_each_time(release):
    template = kube.pod(
        "x",
        "date +%s%N > /v/run-$HOSTNAME",
        release.image,
        context=kube.restricted(),
        restart="OnFailure",
        **mounted("shared"),
    )["spec"]
    template["securityContext"] = {"fsGroup": 8020}
    job = {"spec": {"template": {"spec": template}}}
    kube.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "tick"},
            "spec": {"schedule": "* * * * *", "jobTemplate": job},
        },
        SPACE,
    )
    # Two runs by hand and one by the clock.
    for number in range(2):
        kube.kubectl("-n", SPACE, "create", "job", f"by-hand-{number}", "--from=cronjob/tick")

    def runs():
        done = [job for job in kube.items("-n", SPACE, "jobs") if job["status"].get("succeeded")]
        return len(done) >= 3 and done

    done = kube.until("three runs", runs)
    kube.kubectl("-n", SPACE, "delete", "cronjob", "tick")
    reader = kube.pod(
        "count", "ls /v/run-* | wc -l", release.image, context=kube.restricted(), **mounted("shared", readOnly=True)
    )
    reader["spec"]["securityContext"] = {"fsGroup": 8020}
    kube.apply(reader, SPACE)
    written = int(kube.wait_pod(SPACE, "count").strip())
    if written < len(done):
        raise kube.Failed(f"{len(done)} runs, {written} files")
    return f"{len(done)} runs, {written} files"


def case_files_of_a_volume_are_files_of_the_file_system(release):
    """The folder of a volume is a folder for everybody: what a pod wrote is read over hdfs://."""
    writer = kube.pod(
        "maker", "mkdir -p /v/d && echo from-a-pod > /v/d/f", release.image, context=kube.restricted(), **mounted("shared")
    )
    writer["spec"]["securityContext"] = {"fsGroup": 8020}
    kube.apply(writer, SPACE)
    kube.wait_pod(SPACE, "maker")
    lines = release.fs("ls", "-R", "/volumes")
    path = next(line.split()[-1] for line in lines.splitlines() if line.strip().endswith("/d/f"))
    same(release.fs("cat", path), "from-a-pod\n")
    return path


def after(release):
    kube.forget(SPACE)
