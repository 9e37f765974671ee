"""What an uninstallation leaves, and what a new installation finds."""

import kube
from kube import Failed, same


def case_uninstalling_keeps_the_data(release):
    script = "head -c 7000000 /dev/urandom > /tmp/f; sha256sum < /tmp/f; steadfs fs put -f /tmp/f /kept"
    total = kube.execute(release.namespace, f"{release.name}-namenode-0", "bash", "-c", script).split()[0]
    release.wait_healthy()
    release.uninstall()
    kube.until(
        "the pods are gone",
        lambda: (
            not kube.items(
                "-n", release.namespace, "pods", "-l", "app.kubernetes.io/name=steadfs,app.kubernetes.io/component!=test"
            )
        ),
    )
    claims = [claim["metadata"]["name"] for claim in kube.items("-n", release.namespace, "pvc")]
    if f"{release.name}-namenode" not in claims:
        raise Failed(f"the claim is gone: {claims}")
    left = {}
    for kind in ("clusterroles", "clusterrolebindings", "csidrivers", "storageclasses", "priorityclasses"):
        names = [
            one["metadata"]["name"]
            for one in kube.items(kind, "-l", f"app.kubernetes.io/instance={release.name}")
            if one["metadata"]["annotations"].get("meta.helm.sh/release-namespace") == release.namespace
        ]
        if names:
            left[kind] = names
    same(left, {}, "left behind in the cluster")
    release.install()
    release.wait()
    script = "steadfs fs cat /kept | sha256sum"
    same(kube.execute(release.namespace, f"{release.name}-namenode-0", "bash", "-c", script).split()[0], total, "content")
    release.wait_healthy()
    return f"claims kept: {claims}; installed again, the file is there"
