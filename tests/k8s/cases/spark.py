"""Stock Spark in cluster mode: beside its data, on volumes, without a queue between jobs, and while things fail."""

import os

import kube
import spark_jobs
from spark_jobs import Spark, VERSIONS, levels

LEAST_LOCAL = 95.0
NEWEST = VERSIONS[-1]
WAYS = ["sum", "parquet", "csv", "text", "textFile", "newAPIHadoopFile"]
# A file or a part of one for each task: a task of two files would be beside one of them only.
SPLITS = {"spark.sql.files.maxPartitionBytes": str(2 << 20), "spark.sql.files.openCostInBytes": "0",
          "spark.hadoop.dfs.replication": "2"}
ROUNDS = os.environ.get("STEADFS_K8S_SPARK_ROUNDS", "3")


def before(release):
    release.fs("mkdir", "-p", "/jobs")
    release.fs("chmod", "1777", "/jobs")


def share(tasks):
    return 100 * sum(level == "NODE_LOCAL" for level, _ in tasks) / max(1, len(tasks))


def scan(release, version):
    """One application that reads in every way; levels by way, and what the job saw."""
    with Spark(release, version) as spark:
        spark.submit("write", "write", conf=SPLITS)
        job = spark.submit("scan", "scan", f"datanodes={spark_jobs.datanode_pages(release)}", f"rounds={ROUNDS}", conf=SPLITS)
        return job.scans(), job.result["ways"]


def told(found, ways):
    lines = []
    for way in WAYS:
        tasks, seen = found[way], ways[way]
        hosts = {}
        for _, host in tasks:
            hosts[host] = hosts.get(host, 0) + 1
        near = 100 * seen["local"] / max(1, seen["local"] + seen["remote"])
        lines.append(f"{way}: {levels(tasks)}, tasks by executor {sorted(hosts.values())}, {seen['seconds']} s, "
                     f"{seen['local'] + seen['remote']} bytes, {near:.1f} % from the own node")
    return "\n".join(lines)


def beside_their_data(release, version):
    found, ways = scan(release, version)
    text = told(found, ways)
    for way in WAYS:
        if share(found[way]) < LEAST_LOCAL:
            raise kube.Failed(f"{way} is not local\n{text}")
    local, remote = (sum(ways[way][where] for way in WAYS) for where in ("local", "remote"))
    if 100 * local < LEAST_LOCAL * (local + remote):
        raise kube.Failed(f"{local} bytes from the own node, {remote} from others\n{text}")
    return f"{version}: {local} bytes from the own node, {remote} from others\n{text}"


def case_tasks_run_beside_their_data(release):
    return "\n".join(beside_their_data(release, version) for version in VERSIONS)


COUNT = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
url = sys.argv[1]
spark.range(100_000).write.mode("overwrite").parquet(f"{url}/numbers")
print("COUNTED", spark.read.parquet(f"{url}/numbers").count())
"""


def case_the_guides_command_works(release):
    """The command of docs/KUBERNETES.md, with this release's address and sizes for small nodes."""
    page = (kube.HERE.parent.parent / "docs" / "KUBERNETES.md").read_text()
    command = page.split("## Spark\n", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    command = command.replace("hdfs://steadfs-namenode.steadfs.svc:8020", release.url)
    small = ("--conf spark.kubernetes.container.image.pullPolicy=IfNotPresent --conf spark.executor.memory=600m "
             "--conf spark.driver.memory=600m --conf spark.kubernetes.driver.request.cores=0.3 "
             "--conf spark.kubernetes.executor.request.cores=0.3 --conf spark.kubernetes.driver.pod.name=count "
             "--conf spark.kubernetes.submission.waitAppCompletion=false ")
    with Spark(release, NEWEST) as spark:
        release.fs("mkdir", "-p", "/user/spark/events")
        release.fs("chown", "-R", "spark", "/user/spark")
        pod = f"{release.name}-namenode-0"
        kube.run("kubectl", "-n", release.namespace, "exec", "-i", pod, "--", "steadfs", "fs", "put", "--force", "-",
                 "/user/spark/count.py", text=COUNT)
        setting = f"NAMESPACE={spark.namespace} IMAGE={spark_jobs.image(NEWEST)}\n"
        kube.execute(spark.namespace, "submitter", "bash", "-ec",
                     setting + command.replace("spark-submit ", f"spark-submit {small}"), limit=300)
        job = spark_jobs.Job(spark, "count")
        job.said("COUNTED 100000")
        kube.has(release.fs("ls", "/user/spark/events"), "spark-")


def case_without_names_no_task_is_local(release):
    release.install(**{"watch.nameExecutors": "false"})
    release.wait()
    try:
        found, ways = scan(release, NEWEST)
    finally:
        release.install()
        release.wait()
    text = told(found, ways)
    for way in WAYS:
        if share(found[way]) > 0:
            raise kube.Failed(f"{way} is local\n{text}")
    return f"{NEWEST}\n{text}"


def claim(name, size, mode, release):
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": [mode], "storageClassName": storage_class(release),
                     "resources": {"requests": {"storage": size}}}}


def storage_class(release):
    driver = "csi.steadfs.dev" if release.name == "steadfs" else f"{release.name}.{release.namespace}.csi.steadfs.dev"
    for found in kube.items("storageclasses"):
        if found["provisioner"] == driver:
            return found["metadata"]["name"]
    raise kube.Failed(f"no storage class of {driver}")


def case_executors_with_a_volume(release):
    """A claim that all share for tables, and one for each executor where shuffles spill."""
    with Spark(release, NEWEST) as spark:
        kube.apply(claim("shared", "1Gi", "ReadWriteMany", release), spark.namespace)
        conf = {}
        for role in ("driver", "executor"):
            prefix = f"spark.kubernetes.{role}.volumes.persistentVolumeClaim.shared"
            conf[f"{prefix}.mount.path"], conf[f"{prefix}.options.claimName"] = "/shared", "shared"
        local = "spark.kubernetes.executor.volumes.persistentVolumeClaim.spark-local-dir-1"
        conf.update({
            f"{local}.mount.path": "/spill", f"{local}.options.claimName": "OnDemand",
            f"{local}.options.storageClass": storage_class(release), f"{local}.options.sizeLimit": "1Gi",
            # Without checksum files beside the files, as the guide says.
            "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
            "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
        })
        job = spark.submit("volume", "through_a_mount", "folder=/shared", conf=conf, wait=False)
        claims = kube.until("claims of executors", lambda: len(
            [one for one in kube.items("-n", spark.namespace, "pvc") if one["status"].get("phase") == "Bound"]) >= 4)
        job.wait()
        kube.same((job.result["sum"], job.result["rows"]), (sum(range(400_000)), 400_000), "what the mount gave back")
        kube.same((job.result["sorted_rows"], job.result["sorted_sum"]), (1_500_000, sum(range(1_500_000))), "sorted rows")
        return f"{job.result}; claims bound: {claims}"


def case_a_folder_between_two_jobs(release):
    """One job puts files into a folder, another follows it; each driver is killed once and started again."""
    with Spark(release, NEWEST) as spark:
        small = {"spark.executor.instances": "1"}
        feeder = spark.submit("feed", "feed", conf=small, wait=False)
        follower = spark.submit("follow", "follow", conf=small, wait=False)
        feeder.said("FEED 8 ")
        follower.kill()
        follower = spark.submit("follow", "follow", conf=small, wait=False)
        feeder.said("FEED 12 ")
        feeder.kill()
        feeder = spark.submit("feed", "feed", conf=small, wait=False)
        begun = feeder.said("FEED begins at ").log().split("FEED begins at ")[1].split()[0]
        feeder.said(f"FEED {int(begun) + 15} ")
        release.fs("touch", f"/jobs/{NEWEST}/stop")
        fed, seen = feeder.wait().result, follower.wait().result
        release.fs("rm", "-r", "--skip-trash", f"/jobs/{NEWEST}/stop", f"/jobs/{NEWEST}/in", f"/jobs/{NEWEST}/out",
                   f"/jobs/{NEWEST}/checkpoint")
        kube.same((seen["rows"], seen["distinct"], seen["top"]), (fed["rows"], fed["rows"], fed["rows"] - 1), "rows")
        return f"{fed['batches']} files, {seen}"


def case_executors_come_and_go(release):
    """Dynamic allocation with shuffle tracking, and what executors hold goes to hdfs:// when they leave."""
    with Spark(release, NEWEST) as spark:
        job = spark.submit("grow", "grow_and_shrink", conf={
            "spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.minExecutors": "1", "spark.dynamicAllocation.initialExecutors": "1",
            "spark.dynamicAllocation.maxExecutors": "3", "spark.dynamicAllocation.executorIdleTimeout": "5s",
            "spark.dynamicAllocation.shuffleTracking.timeout": "10s",
            "spark.decommission.enabled": "true", "spark.storage.decommission.enabled": "true",
            "spark.storage.decommission.shuffleBlocks.enabled": "true", "spark.storage.decommission.rddBlocks.enabled": "true",
            "spark.storage.decommission.fallbackStorage.path": f"{spark.folder}/fallback/",
        }, executors=1)
        seen = job.result
        kube.same((seen["right"], seen["most"], seen["shrunk"]), (True, 3, True), f"right, most executors, shrunk of {seen}")
        return str(seen)


def case_an_evicted_executor_leaves_its_shuffle_behind(release):
    """An executor's pod is deleted: it is decommissioned and moves its shuffle blocks away, to hdfs:// if to nobody else."""
    with Spark(release, NEWEST) as spark:
        job = spark.submit("evicted", "shuffle_and_wait", conf={
            "spark.decommission.enabled": "true", "spark.storage.decommission.enabled": "true",
            "spark.storage.decommission.shuffleBlocks.enabled": "true",
            "spark.storage.decommission.fallbackStorage.path": f"{spark.folder}/fallback/",
        }, executors=1, wait=False)
        job.said("SHUFFLED")
        for pod in job.executors():
            kube.kubectl("-n", spark.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=true")
        release.fs("touch", f"/jobs/{NEWEST}/go-on")
        job.wait()
        release.fs("rm", "--skip-trash", f"/jobs/{NEWEST}/go-on")
        kube.same(job.result["right"], True, "result")
        return str(job.result)


def broken(release, what, harm, mend=None, rounds=5, conf=None):
    """A job of several rounds; something is harmed in its second. It must end with everything right."""
    with Spark(release, NEWEST) as spark:
        job = spark.submit(what, "long_job", f"rounds={rounds}", conf=conf, wait=False)
        job.said("ROUND 1")
        try:
            harm(spark, job)
            job.wait()
        finally:
            if mend:
                mend(spark)
        return f"{what}: {job.result}"


def case_a_datanode_is_killed_during_a_job(release):
    def harm(spark, job):
        pod = release.parts("datanode")[0]["metadata"]["name"]
        kube.kubectl("-n", release.namespace, "delete", "pod", pod, "--grace-period=0", "--force")

    seen = broken(release, "datanode", harm)
    release.wait()
    return seen


def case_the_namenode_is_deleted_during_a_job(release):
    def harm(spark, job):
        kube.kubectl("-n", release.namespace, "delete", "pod", f"{release.name}-namenode-0", "--wait=false")

    seen = broken(release, "namenode", harm)
    release.wait()
    return seen


def case_the_csi_node_pod_is_deleted_during_a_job(release):
    """Executors use a volume meanwhile."""
    with Spark(release, NEWEST) as spark:
        kube.apply(claim("shared", "1Gi", "ReadWriteMany", release), spark.namespace)
        conf = {}
        for role in ("driver", "executor"):
            prefix = f"spark.kubernetes.{role}.volumes.persistentVolumeClaim.shared"
            conf[f"{prefix}.mount.path"], conf[f"{prefix}.options.claimName"] = "/shared", "shared"
        job = spark.submit("csi", "mounted_rounds", "folder=/shared", conf=conf, wait=False)
        job.said("ROUND 1")
        for pod in release.parts("csi-node"):
            kube.kubectl("-n", release.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false")
        job.wait()
        return str(job.result)


def case_dns_is_stopped_during_a_job(release):
    """Established clients live on."""
    def harm(spark, job):
        kube.kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=0")
        job.said("ROUND 3")

    def mend(spark):
        kube.kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=1")
        kube.wait_rolled_out("kube-system", "deployment/coredns")

    return broken(release, "dns", harm, mend)


def leave_without_dns(node):
    """Moves the cluster's name service off a node: what its loss does is another case."""
    def there():
        return [pod["metadata"]["name"] for pod in kube.items("-n", "kube-system", "pods", "-l", "k8s-app=kube-dns")
                if pod["spec"].get("nodeName") == node]

    if not there():
        return
    kube.kubectl("cordon", node)
    try:
        kube.kubectl("-n", "kube-system", "delete", "pod", *there(), "--wait=false")
        kube.until(f"no name service on {node}", lambda: not there())
        kube.wait_rolled_out("kube-system", "deployment/coredns")
    finally:
        kube.kubectl("uncordon", node)


# Spark's own time for an executor that says nothing any more is 120 s; and with three nodes there is no datanode to take the
# place of the one that is gone, which by Hadoop's default ends the event log.
WITHOUT_A_NODE = {
    "spark.network.timeout": "40s",
    "spark.network.timeoutInterval": "10s",
    "spark.executor.heartbeatInterval": "5s",
    "spark.hadoop.dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
}


def case_a_node_is_killed_during_a_job(release):
    """A node without the driver and the namenode: its executor and its datanode are gone. The event log is whole."""
    stopped = []
    events = f"/jobs/{NEWEST}/events"

    def logs():
        """Those of jobs that ended; the others have another name."""
        if "events" not in release.fs("ls", f"/jobs/{NEWEST}"):
            return set()
        return {name for name in release.fs("ls", events).split() if "spark-" in name and not name.endswith(".inprogress")}

    before = logs()

    def harm(spark, job):
        pods = [job.pod(), *kube.items("-n", release.namespace, "pods", "-l", "app.kubernetes.io/component=namenode")]
        keep = {pod["spec"]["nodeName"] for pod in pods}
        node = next(name for name in reversed(kube.nodes()) if name not in keep)
        leave_without_dns(node)
        stopped.append(node)
        kube.Machines.kill(node)

    def mend(spark):
        for node in stopped:
            kube.Machines.start(node)

    seen = broken(release, "node", harm, mend, conf=WITHOUT_A_NODE)
    release.wait()
    kube.same(len(logs() - before), 1, "event logs that were ended")
    return f"{seen}; killed {stopped}"


case_a_node_is_killed_during_a_job.needs_machines = True
