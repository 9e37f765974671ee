"""What the cases do with a cluster: kubectl, helm, waiting, pods that run a script."""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import time

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent.parent / "charts" / "steadfs"
CACHE = pathlib.Path(os.environ.get("STEADFS_K8S_CACHE") or pathlib.Path.home() / ".cache/steadfs-k8s")

# What stands in for sidecars on the cluster of tests/k8s/cluster, which has no registry.
CSIKIT, RESIZER = "localhost/steadfs-test/csikit:1", "localhost/steadfs-test/csi-resizer:1"
STAND_INS = {"provisioner": "csi-provisioner", "registrar": "csi-node-driver-registrar", "livenessProbe": "livenessprobe"}

# Hang guards, in seconds. Nothing here asserts on timing.
ONE_CALL = 180
TO_COME_TRUE = 300
BETWEEN_LOOKS = 1.0


class Failed(AssertionError):
    """A case saw what it must not see."""


class NotRun(Exception):
    """This cluster lacks what a case wants; says what."""


def run(*command, text=None, check=True, limit=ONE_CALL):
    """Runs a program; what it wrote to standard output, or Failed with what it wrote to both."""
    try:
        done = subprocess.run([str(part) for part in command], input=text, text=True, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{shlex.join(map(str, command))}: no end in {limit} s") from late
    if check and done.returncode:
        raise Failed(f"{shlex.join(map(str, command))}: {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout if check else done


def kubectl(*arguments, **options):
    return run("kubectl", *arguments, **options)


def get(*arguments):
    """Objects as kubectl gives them; None if there is no such object."""
    done = kubectl("get", *arguments, "-o", "json", check=False)
    if done.returncode:
        if "NotFound" in done.stderr or "not found" in done.stderr:
            return None
        raise Failed(done.stderr)
    return json.loads(done.stdout)


def items(*arguments):
    found = get(*arguments)
    return found["items"] if found else []


def apply(manifest, namespace=None):
    """Applies YAML text, or a dict or list of dicts."""
    if not isinstance(manifest, str):
        manifests = manifest if isinstance(manifest, list) else [manifest]
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    return kubectl("apply", *(["-n", namespace] if namespace else []), "-f", "-", text=manifest)


def until(what, look, limit=TO_COME_TRUE):
    """Waits until `look` gives something true, and gives it back. Errors of `look` count as "not yet"."""
    end = time.monotonic() + limit
    while True:
        try:
            found, last = look(), None
            if found:
                return found
            last = repr(found)
        except Failed as error:
            last = str(error)
        if time.monotonic() > end:
            raise Failed(f"{what}: not true after {limit} s; at last: {last[-2000:]}")
        time.sleep(BETWEEN_LOOKS)


def same(found, expected, what="value"):
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


def has(text, part):
    if part not in text:
        raise Failed(f"expected {part!r} in {text!r}")


def namespace(name, **labels):
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def forget(name):
    """Deletes a namespace and waits until it is gone."""
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=170s")


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return not pod["metadata"].get("deletionTimestamp") and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def nodes():
    return sorted(node["metadata"]["name"] for node in items("nodes"))


def wait_rolled_out(namespace, *what, limit=TO_COME_TRUE):
    for one in what:
        kubectl("-n", namespace, "rollout", "status", one, f"--timeout={limit}s", limit=limit + 10)


def restricted():
    """The security context that a namespace of the level `restricted` asks for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 8020,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod(name, script, image, *, node=None, env=None, volumes=None, mounts=None, restart="Never", labels=None, context=None):
    """A pod that runs a script of bash; `volumes` and `mounts` as Kubernetes has them."""
    spec = {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["bash", "-c", script],
                "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
                "volumeMounts": mounts or [],
                "securityContext": context or {},
            }
        ],
        "volumes": volumes or [],
    }
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def wait_pod(namespace, name, phase="Succeeded", limit=TO_COME_TRUE):
    """Waits until a pod is in a phase; its log. Fails at once if it ends in another."""

    def look():
        found = get("-n", namespace, "pod", name)
        if not found:
            raise Failed(f"there is no pod {name}")
        return found["status"].get("phase") in {phase, "Succeeded", "Failed"} and found["status"]["phase"]

    reached = until(f"pod {name} {phase}", look, limit)
    text = kubectl("-n", namespace, "logs", name, "--tail=200", check=False).stdout
    if reached != phase:
        raise Failed(f"pod {name} is {reached}, not {phase}: {text[-2000:]}")
    return text


def execute(namespace, pod_name, *command, check=True, limit=ONE_CALL):
    return kubectl("-n", namespace, "exec", pod_name, "--", *command, check=check, limit=limit)


class Release:
    """A release of the chart."""

    def __init__(self, image, name="steadfs", namespace="steadfs"):
        self.image, self.name, self.namespace = image, name, namespace
        self.url = f"hdfs://{name}-namenode.{namespace}.svc:8020"

    def values(self, **more):
        """What every installation here needs: an image that is on the nodes, and stand-ins where sidecars are not."""
        repository, _, tag = self.image.rpartition(":")
        chosen = {"image.repository": repository, "image.tag": tag}
        if Machines.here():
            chosen["csi.sidecars.resizer.image"] = RESIZER
            for sidecar, command in STAND_INS.items():
                chosen[f"csi.sidecars.{sidecar}.image"] = CSIKIT
                chosen[f"csi.sidecars.{sidecar}.command"] = "{/csikit," + command + "}"
        for pair in os.environ.get("STEADFS_K8S_SET", "").split():
            key, _, value = pair.partition("=")
            chosen[key] = value
        chosen.update(more)
        return [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]

    def helm(self, *arguments, **options):
        return run(self.program(), "-n", self.namespace, *arguments, **options)

    @staticmethod
    def program():
        """Helm: the one named, the one on the path, or the one made for the cluster of this folder."""
        return os.environ.get("HELM") or shutil.which("helm") or str(CACHE / "bin" / "helm")

    def install(self, **values):
        """Installs, or upgrades what is installed to these values."""
        self.helm("upgrade", "--install", self.name, CHART, "--create-namespace", *self.values(**values))

    def uninstall(self):
        self.helm("uninstall", self.name, "--ignore-not-found", "--wait", "--timeout=170s")

    def forget(self):
        """Removes the release with all its data: the namespace, and its folder on each node."""
        self.uninstall()
        forget(self.namespace)
        folder = f"/host/{self.namespace}/{self.name}"
        volumes = [{"name": "host", "hostPath": {"path": "/var/lib/steadfs", "type": "DirectoryOrCreate"}}]
        mounts = [{"name": "host", "mountPath": "/host"}]
        cleaners = {f"forget-{self.namespace}-{node}": node for node in nodes()}
        for name, node in cleaners.items():
            context = {"runAsUser": 0}
            apply(
                pod(name, f"rm -rf {folder}", self.image, node=node, volumes=volumes, mounts=mounts, context=context),
                "default",
            )
        for name in cleaners:
            wait_pod("default", name)
        kubectl("-n", "default", "delete", "pod", *cleaners, "--wait=false")

    def storage_class(self):
        """The name of the release's class; None if it has none."""
        for found in items("storageclasses", "-l", f"app.kubernetes.io/instance={self.name}"):
            if found["metadata"].get("annotations", {}).get("meta.helm.sh/release-namespace") == self.namespace:
                return found["metadata"]["name"]
        return None

    def parts(self, part):
        """The pods of a part, by name."""
        label = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={part}"
        return sorted(items("-n", self.namespace, "pods", "-l", label), key=lambda pod: pod["metadata"]["name"])

    def wait(self, datanodes=None):
        """Until the namenode serves, out of safe mode, with so many datanodes (all nodes', if none are told)."""
        want = len(nodes()) if datanodes is None else datanodes

        def look():
            report = self.report()
            return report["live_datanodes"] >= want and not report["safe_mode"]

        until(f"{self.name} serves with {want} datanodes", look)

    def admin(self, *arguments, **options):
        """`steadfs admin` in the namenode's pod."""
        return execute(self.namespace, f"{self.name}-namenode-0", "steadfs", "admin", *arguments, **options)

    def fs(self, *arguments, **options):
        """`steadfs fs` in the namenode's pod."""
        return execute(self.namespace, f"{self.name}-namenode-0", "steadfs", "fs", *arguments, **options)

    def fs_check(self, path):
        """`steadfs admin fsck` of a path, as JSON."""
        return self.admin("fsck", path, "--json", check=False).stdout.strip().splitlines()[-1]

    def report(self):
        """`steadfs admin report`, which fails where anything is wrong; its figures are wanted then too."""
        done = self.admin("report", "--json", check=False)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            raise Failed(f"no report: {done.stdout}{done.stderr}") from None

    def by_node(self):
        """Node → what the report says of its datanode."""
        places = {pod["status"].get("podIP"): pod["spec"].get("nodeName") for pod in self.parts("datanode")}
        found = {}
        for datanode in self.report()["datanodes"]:
            node = datanode.get("node") or places.get(datanode["address"].rpartition(":")[0].strip("[]"))
            if node:
                found[node] = datanode
        return found

    def wait_healthy(self, limit=TO_COME_TRUE):
        """Until every block has all its replicas."""

        def look():
            report = self.report()
            short = {key: report[key] for key in ("under_replicated", "corrupt", "missing")}
            if any(short.values()):
                raise Failed(f"{short}")
            return True

        until(f"{self.name} is whole", look, limit)


class Load:
    """Pods that write files with our client, one after the other, and note which were acknowledged."""

    SCRIPT = """
mkdir -p /tmp/w; cd /tmp/w; : > done; : > failed; n=0
while [ ! -e stop ]; do
    head -c 300000 /dev/urandom > f
    if steadfs fs put --force --quiet $OPTIONS f "$FOLDER/$n" 2> error; then echo "$n $(sha256sum < f | cut -d' ' -f1)" >> done
    else echo "$n $(cat error)" >> failed; fi
    n=$((n + 1))
done
echo ended >> done
exec sleep infinity
"""

    CHECK = """
cd /tmp/w; touch stop; until grep -q ended done; do sleep 0.2; done
bad=0; mkdir -p back; steadfs fs get --quiet -r "$FOLDER" back
while read -r n sum; do
    [ "$n" = ended ] && continue
    found=$(sha256sum < "back/${FOLDER##*/}/$n" | cut -d' ' -f1)
    [ "$found" = "$sum" ] || { echo "file $n: expected $sum, found $found"; bad=$((bad + 1)); }
done < done
echo "acknowledged $(($(wc -l < done) - 1)) failed $(wc -l < failed) bad $bad"
cat failed | head -5
"""

    def __init__(self, release, name, node=None, options=""):
        self.release, self.name = release, name
        release.fs("mkdir", "-p", f"/load/{name}")
        env = {"STEADFS_URL": release.url, "STEADFS_CONNECT_TIMEOUT": "2m", "FOLDER": f"/load/{name}", "OPTIONS": options,
               "HADOOP_USER_NAME": "steadfs"}
        apply(pod(name, self.SCRIPT, release.image, node=node, env=env), release.namespace)
        wait_pod(release.namespace, name, "Running")
        self.wait_more(3)

    def count(self):
        return int(execute(self.release.namespace, self.name, "sh", "-c", "wc -l < /tmp/w/done").strip())

    def wait_more(self, files):
        """Until so many more files are acknowledged."""
        goal = self.count() + files
        until(f"{self.name} wrote {files} more files", lambda: self.count() >= goal)

    def end(self, failures=0):
        """Stops, reads every acknowledged file back and compares; what was seen."""
        said = execute(self.release.namespace, self.name, "bash", "-c", self.CHECK, limit=600)
        line = next(line for line in said.splitlines() if line.startswith("acknowledged"))
        _, written, _, failed, _, bad = line.split()
        if int(bad) or int(failed) > failures:
            raise Failed(f"{self.name}: {said}")
        kubectl("-n", self.release.namespace, "delete", "pod", self.name, "--wait=false")
        return f"{written} files acknowledged, all right" + (f", {failed} refused" if int(failed) else "")


# Of all processes of a container but the shell that asks: resident KiB, and clock ticks used.
USED = """
rss=0; ticks=0
for p in /proc/[0-9]*; do
    [ "$p" != "/proc/$$" ] || continue
    while read -r key value _; do [ "$key" != VmRSS: ] || rss=$((rss + value)); done < "$p/status"
    read -r line < "$p/stat" || continue
    set -- ${line##*) }; shift 11; ticks=$((ticks + $1 + $2))
done 2> /dev/null
echo $rss $ticks $(getconf CLK_TCK 2> /dev/null || echo 100)
"""

CONTAINERS = {
    "namenode": "namenode",
    "datanode": "datanode",
    "csi-controller": "driver",
    "csi-node": "driver",
    "mount-keeper": "keeper",
}


def used(release):
    """Part -> (resident bytes, processor seconds since its start) of the pod that has most of each."""
    found = {}
    for part, container in CONTAINERS.items():
        seen = []
        for one in release.parts(part):
            name = one["metadata"]["name"]
            said = kubectl("-n", release.namespace, "exec", name, "-c", container, "--", "bash", "-c", USED)
            resident, ticks, rate = map(int, said.split())
            seen.append((resident * 1024, ticks / rate))
        if not seen:
            raise Failed(f"no pod of {part}")
        found[part] = (max(one[0] for one in seen), max(one[1] for one in seen))
    return found


def while_it_lasts(release, seconds):
    """What the parts take over some time: resident MiB at its end, and percent of a core; the most of each part's pods."""
    began, before = time.monotonic(), used(release)
    time.sleep(seconds)
    after, lasted = used(release), time.monotonic() - began
    return ", ".join(
        f"{part} {resident >> 20} MiB {(spent - before[part][1]) / lasted:.1%}" for part, (resident, spent) in after.items()
    )


class Machines:
    """The nodes as machines: only of the cluster that tests/k8s/cluster makes."""

    cluster = HERE / "cluster"

    @classmethod
    def here(cls):
        kubeconfig = os.environ.get("KUBECONFIG", "")
        made = run(cls.cluster, "kubeconfig", check=False)
        return made.returncode == 0 and made.stdout.strip() == kubeconfig

    @classmethod
    def do(cls, *arguments, **options):
        return run(cls.cluster, *arguments, **options)

    @classmethod
    def kill(cls, node):
        cls.do("kill-node", node)

    @classmethod
    def start(cls, node):
        cls.do("start-node", node)
        until(f"{node} is ready", lambda: is_ready_node(node))


def is_ready_node(name):
    node = get("node", name)
    return node and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
