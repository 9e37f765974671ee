"""What must be so once nobody kills or writes any more: everything replicated, and nothing left over."""

import json
import pathlib

from bench import until

# How long repairs and deletions may take to settle.
SETTLING = 120


class Leak(Exception):
    """Something is left over, or does not come to rest."""


def settle(cluster, load, folders, replication=2):
    """
    Waits until all blocks have their replicas, and compares: the files' bytes with the ledger, the blocks with the files,
    the replicas on the disks below `folders` with the blocks. The writers are at rest, and have been checked.
    """
    settled = ("under_replicated", "missing", "corrupt", "misplaced", "pending_replication", "pending_deletion", "open_files")
    report = calm(cluster, lambda report: not any(report[name] for name in settled), "all blocks are whole, all files closed")
    told = json.loads(cluster.admin("--json", "fsck", "/", seconds=120).stdout)
    size = sum(len(node.data) for writer in load.writers for node in writer.tree.values() if node.is_file())
    if told["bytes"] != size:
        raise Leak(f"files have {told['bytes']} bytes, the ledger {size}")
    if report["blocks"] != told["blocks"]:
        raise Leak(f"{report['blocks']} blocks are known, files have {told['blocks']}")
    wait_for_replicas(folders, told["blocks"] * replication)
    namespace = cluster.admin("fsck", "--namespace")
    if namespace.returncode != 0:
        raise Leak(f"fsck --namespace: {namespace.stdout.decode()}{namespace.stderr.decode()}")
    return f"{told['files']} files of {told['blocks']} blocks, {told['blocks'] * replication} replicas on the disks"


def empty(cluster, load, hand, folders):
    """Deletes everything: no block is known any more, and no replica lies on a disk."""
    for writer in load.writers:
        hand.ask("delete", writer.root)
    calm(cluster, lambda report: not report["blocks"] and not report["files"], "no block is left")
    wait_for_replicas(folders, 0)


def calm(cluster, good, what):
    last = {}

    def asked():
        last.update(cluster.report() or {})
        return bool(last) and good(last)

    try:
        until(asked, SETTLING)
    except TimeoutError:
        told = {key: value for key, value in last.items() if isinstance(value, int | str)}
        raise Leak(f"not within {SETTLING} s: {what}: {told}") from None
    return last


def wait_for_replicas(folders, wanted):
    seen = None

    def fits():
        nonlocal seen
        seen = replicas(folders)
        return seen == (wanted, 0)

    try:
        until(fits, SETTLING)
    except TimeoutError:
        raise Leak(f"{seen[0]} finished and {seen[1]} unfinished replicas on the disks, not {wanted} and none") from None


def replicas(folders):
    """How many finished replicas lie below the folders, and how many that are not."""
    finished = unfinished = 0
    for folder in folders:
        for path in pathlib.Path(folder).rglob("blk_*"):
            if path.suffix != ".meta":
                finished += "finalized" in path.parts
                unfinished += "finalized" not in path.parts
    return finished, unfinished
