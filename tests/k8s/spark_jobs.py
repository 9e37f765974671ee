"""Spark as users run it: `spark-submit --deploy-mode cluster` out of a stock image, and what its event log says."""

import collections
import json
import os
import pathlib
import re
import subprocess
import threading

import kube

HERE = pathlib.Path(__file__).parent / "spark"
# The newest of each line that stock distributions carry.
VERSIONS = os.environ.get("STEADFS_K8S_SPARK", "3.5.9 4.3.0").split()
APP_LIMIT = 900
SCANS = ("FileScanRDD", "HadoopRDD", "NewHadoopRDD", "DataSourceRDD")
# Small enough that four of them fit on a small node.
JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
TEMPLATE = """
apiVersion: v1
kind: Pod
spec:
  terminationGracePeriodSeconds: 20
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {spark-role: executor}}}
"""


def image(version):
    return f"localhost/steadfs-test/spark:{version}"


LOADING = threading.Lock()


def load_image(version):
    """Makes the image and gives it to the nodes, if they do not have it."""
    with LOADING:
        if not kube.Machines.here():
            return
        held = [known for node in kube.items("nodes") for known in node["status"].get("images", [])]
        holders = sum(image(version) in (known.get("names") or []) for known in held)
        if holders < len(kube.nodes()):
            archive = kube.run(HERE / "make-image", version, limit=1800).strip().splitlines()[-1]
            kube.Machines.do("load", archive, limit=1800)


def load_images_early():
    """Begins with what takes minutes while cases wait for pods; who wants an image waits for it, and tells what fails."""
    threading.Thread(target=lambda: [load_image(version) for version in VERSIONS], daemon=True).start()


class Spark:
    """A namespace with what a stock Spark needs: a service account, and a pod to submit from."""

    def __init__(self, release, version):
        self.release, self.version = release, version
        self.namespace = f"{release.namespace}-spark-{version.replace('.', '-')}"
        self.folder = f"{release.url}/jobs/{version}"
        self.count = 0

    def __enter__(self):
        load_image(self.version)
        kube.namespace(self.namespace)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "spark"}}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "spark"},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
                   "subjects": [{"kind": "ServiceAccount", "name": "spark", "namespace": self.namespace}]}
        template = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "template"},
                    "data": {"executor.yaml": TEMPLATE}}
        # Who submits is who the driver and the executors are.
        submitter = kube.pod("submitter", "exec sleep infinity", image(self.version), env={"HADOOP_USER_NAME": "spark"}, mounts=[
            {"name": "template", "mountPath": "/template"}], volumes=[
            {"name": "template", "configMap": {"name": "template"}}])
        submitter["spec"]["serviceAccountName"] = "spark"
        kube.apply([account, binding, template, submitter], self.namespace)
        kube.wait_pod(self.namespace, "submitter", "Running")
        self.put(HERE / "job.py", "job.py")
        self.release.fs("mkdir", "-p", f"/jobs/{self.version}/events")
        self.release.fs("chmod", "-R", "1777", "/jobs")
        return self

    def __exit__(self, *_):
        kube.forget(self.namespace)

    def put(self, source, name):
        """Puts a file of ours at jobs/VERSION/NAME."""
        self.release.fs("mkdir", "-p", f"/jobs/{self.version}")
        pod = f"{self.release.name}-namenode-0"
        kube.run("kubectl", "-n", self.release.namespace, "exec", "-i", pod, "--", "steadfs", "fs", "put", "--force", "-",
                 f"/jobs/{self.version}/{name}", text=source.read_text())

    def submit(self, name, what, *options, executors=3, conf=None, wait=True, template=True):
        """Submits job.py; options may hold {url} for the folder of this version."""
        self.count += 1
        driver = f"{name}-{self.count}"
        settings = {
            "spark.kubernetes.namespace": self.namespace,
            "spark.kubernetes.driver.pod.name": driver,
            "spark.kubernetes.container.image": image(self.version),
            "spark.kubernetes.container.image.pullPolicy": "IfNotPresent",
            "spark.kubernetes.authenticate.driver.serviceAccountName": "spark",
            "spark.kubernetes.submission.waitAppCompletion": "false",
            "spark.kubernetes.driverEnv.HADOOP_USER_NAME": "spark",
            "spark.executor.instances": str(executors),
            "spark.executor.cores": "1",
            "spark.executor.memory": "600m",
            "spark.driver.memory": "600m",
            "spark.kubernetes.driver.request.cores": "0.3",
            "spark.kubernetes.executor.request.cores": "0.3",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "300s",
            "spark.executor.extraJavaOptions": JAVA,
            "spark.driver.extraJavaOptions": JAVA,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"{self.folder}/events",
            "spark.eventLog.compress": "false",
            "spark.eventLog.rolling.enabled": "false",
            "spark.hadoop.dfs.client.retry.policy.enabled": "true",
        }
        if template:
            settings["spark.kubernetes.executor.podTemplateFile"] = "/template/executor.yaml"
        settings.update(conf or {})
        arguments = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
        kube.execute(self.namespace, "submitter", "spark-submit", "--master", "k8s://https://kubernetes.default.svc",
                     "--deploy-mode", "cluster", "--name", driver, *arguments, f"{self.folder}/job.py", what, self.folder,
                     *options, limit=300)
        job = Job(self, driver)
        return job.wait() if wait else job

    def events(self, application):
        text = self.release.fs("cat", f"/jobs/{self.version}/events/{application}", limit=300)
        return [json.loads(line) for line in text.splitlines()]


class Job:
    """One application."""

    def __init__(self, spark, driver):
        self.spark, self.driver = spark, driver

    def pod(self):
        return kube.get("-n", self.spark.namespace, "pod", self.driver)

    def log(self):
        return kube.kubectl("-n", self.spark.namespace, "logs", self.driver, check=False).stdout

    def said(self, part, limit=APP_LIMIT):
        """Waits until the driver's log holds this, and fails if it ends without."""

        def look():
            if part in self.log():
                return True
            if (self.pod() or {}).get("status", {}).get("phase") in {"Failed", "Succeeded"}:
                raise RuntimeError(f"{self.driver} ended without {part!r}:\n{self.log()[-3000:]}")
            return False

        kube.until(f"{self.driver} says {part}", look, limit)
        return self

    def wait(self, limit=APP_LIMIT):
        """Waits for the end; the job with its `result`."""

        def look():
            phase = (self.pod() or {"status": {"phase": "gone"}})["status"].get("phase")
            return phase in {"Succeeded", "Failed", "gone"} and phase

        phase = kube.until(f"{self.driver} ended", look, limit)
        log = self.log()
        found = re.findall(r"^RESULT (.*)$", log, re.MULTILINE)
        if phase != "Succeeded" or not found:
            raise kube.Failed(f"{self.driver} is {phase}: {log[-4000:]}")
        self.result = json.loads(found[-1])
        self.application = self.pod()["metadata"]["labels"]["spark-app-selector"]
        return self

    def kill(self):
        kube.kubectl("-n", self.spark.namespace, "delete", "pod", self.driver, "--grace-period=0", "--force")

    def executors(self):
        application = self.pod()["metadata"]["labels"]["spark-app-selector"]
        return kube.items("-n", self.spark.namespace, "pods", "-l", f"spark-app-selector={application},spark-role=executor")

    def scans(self):
        """Levels and hosts of the tasks of stages that read files, by job group."""
        groups, found = {}, collections.defaultdict(list)
        for event in self.spark.events(self.application):
            if event["Event"] == "SparkListenerStageSubmitted":
                info = event["Stage Info"]
                names = [rdd["Name"] for rdd in info["RDD Info"]]
                if any(name.startswith(SCANS) or name.startswith("hdfs://") for name in names):
                    groups[info["Stage ID"]] = event["Properties"].get("spark.jobGroup.id", "")
            elif event["Event"] == "SparkListenerTaskStart" and event["Stage ID"] in groups:
                task = event["Task Info"]
                found[groups[event["Stage ID"]]].append((task["Locality"], task["Host"]))
        return found


def levels(tasks):
    return dict(collections.Counter(level for level, _ in tasks))


def datanode_pages(release):
    """Where the datanodes tell their metrics, for a job that asks them itself."""
    return ",".join(f"{pod['status']['podIP']}:9864" for pod in release.parts("datanode"))
