#!/usr/bin/env python3
"""Every kind of damage to every kind of file, on real files and real processes.

A cell says what became of it: `healed` (it serves, all that was acknowledged is there, and what was damaged is whole
again), `replaced` (another replica was served, and the datanode found the damage and got the replica anew), `harmless` (the
damage was never in the way), `refused` (it does not start, says why, and starts once the file is
put back), `ended` (it ended, and after a restart all is there), `waits, says so` (no change is carried out until the disk answers,
which is told; reads go on). LOST, WRONG and HUNG are failures, and so is a refusal where
another copy could have helped.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from bench import Cluster, Ledger, copy_tree, drop_page_cache, until

COLUMNS = ["bit flip", "zeroed page", "truncation", "swapped", "stale copy", "EIO on read", "EIO on write", "ENOSPC",
           "failing sync", "torn write", "no answer"]


# What lies on a datanode, and how soon it looks at all of it there.
REPLICA = ("block file", "checksum file")
DATANODE = {"scan_period_ms": 2000, "compare_period_ms": 2000, "volume_check_timeout_ms": 15000}
# The disk that fails under a row's file: the data folder `a` has the store, `b` its copy; both have a journal.
DISKS = {"journal, one copy": "b", "journal, every copy": "ab", "SST": "a", "MANIFEST": "a", "SST of the copy": "b",
         "version file": "b", "block file": "datanode-0", "checksum file": "datanode-0"}


def flip(path):
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0")) or len(data)
    data[used // 2] ^= 0x10
    path.write_bytes(data)


def zero_page(path):
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0")) or len(data)
    page = min(4096, used)
    at = (used - page) // 2
    data[at:at + page] = bytes(page)
    path.write_bytes(data)


def truncate(path):
    data = path.read_bytes()
    used = len(data.rstrip(b"\0")) or len(data)
    path.write_bytes(data[:used // 2])


def tear(path):
    """The end of what was written last is missing, as after a power cut in the middle of a write."""
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0"))
    data[used - min(16, used):used] = bytes(min(16, used))
    path.write_bytes(data)


def swap(one, other):
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


class Small:
    """A small ext4 file system on a loop device, whose backing file lies on a tmpfs that can be filled."""

    def __init__(self, root, megabytes=96):
        self.root = pathlib.Path(root)
        self.back, self.mount = self.root / "back", self.root / "disk"
        self.back.mkdir()
        self.mount.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(self.back))
        self.image = self.back / "image"
        with open(self.image, "wb") as image:
            image.truncate((megabytes - 8) << 20)
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard", "-O", "^has_journal", str(self.image))
        self.attach()

    def attach(self):
        run("mount", "-o", "loop,errors=continue", str(self.image), str(self.mount))

    def detach(self):
        subprocess.run(["umount", "-l", str(self.mount)], capture_output=True)

    def fill_back(self):
        """Writes to the disk fail from now on, also those that the system does later."""
        with open(self.back / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(bytes(1 << 20))
            except OSError:
                pass

    def fall_silent(self):
        """Whoever writes waits."""
        run("fsfreeze", "-f", str(self.mount))

    def answer(self):
        subprocess.run(["fsfreeze", "-u", str(self.mount)], capture_output=True)

    def empty_back(self):
        (self.back / "filler").unlink(missing_ok=True)

    def fill_disk(self):
        self.filler = self.mount / "filler"
        with open(self.filler, "wb", buffering=0) as filler:
            for piece in (1 << 20, 4096):
                try:
                    while True:
                        filler.write(bytes(piece))
                except OSError:
                    pass

    def empty_disk(self):
        self.filler.unlink(missing_ok=True)

    def gone(self):
        self.answer()
        self.detach()
        subprocess.run(["umount", "-l", str(self.back)], capture_output=True)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Matrix:
    def __init__(self, binary, root):
        self.binary, self.root = pathlib.Path(binary), pathlib.Path(root)
        self.cells = 0
        self.ledger = Ledger()
        self.template = self.root / "template"
        self.ports = None

    # The state that every cell begins with: two lives, so that there is an older copy of everything too.

    def prepare(self):
        cluster = Cluster(self.binary, self.template, datanodes=2, datanode_settings=DATANODE)
        self.ports = (cluster.port, cluster.http)
        assert cluster.everything(), cluster.words()
        cluster.leave_safe_mode()
        for life in range(2):
            for number in range(25):
                until(lambda path=f"/dir-{life}/{number}": self.ledger.mkdir(cluster, path), what="a folder")
            for number in range(3):
                data = bytes((number + life + place) % 251 for place in range(300_000 + 7_000 * number))
                done = until(lambda data=data, path=f"/file-{life}-{number}": self.ledger.put(cluster, path, data), what="a put")
                assert done
            if life:
                # So that there is an older copy of a block's files.
                assert cluster.fs("append", "-", "/file-0-0", input=b"more").returncode == 0
                data = cluster.fs("cat", "/file-0-0").stdout
                assert data.endswith(b"more")
                self.ledger.files["/file-0-0"] = hashlib.sha256(data).hexdigest()
            assert cluster.admin("scrub").returncode == 0
            if life == 0:
                cluster.stop()
                copy_tree(self.template, self.root / "stale")
                assert cluster.everything(), cluster.words()
                cluster.leave_safe_mode()
        cluster.stop()

    def fresh(self, **folders):
        self.cells += 1
        root = self.root / f"cell-{self.cells}"
        root.mkdir()
        for item in self.template.iterdir():
            if item.is_dir() and item.name in folders:
                copy_tree_into(item, folders[item.name])
            elif item.is_dir():
                copy_tree(item, root / item.name)
            elif item.suffix == ".toml" and item.name != "namenode.toml":
                (root / item.name).write_text(item.read_text().replace(str(self.template), str(root)))
        return Cluster(self.binary, root, datanodes=2, ports=self.ports, **folders)

    # Files.

    @staticmethod
    def journals(cluster, copy):
        return sorted((cluster.folders[copy] / "journal").glob("segment-*.log"))

    def used_journals(self, cluster, copy):
        """Segments that hold something, oldest first."""
        return [path for path in self.journals(cluster, copy) if len(path.read_bytes().rstrip(b"\0")) > 200]

    def targets(self, row, cluster):
        """The files that are damaged together, each with another to swap it with and with its stale copy."""
        store, copy = cluster.folders[0] / "store", cluster.folders[1] / "store-copy" / "files"
        if row == "journal, one copy":
            return [self.used_journals(cluster, 1)[-2:]]
        if row == "journal, every copy":
            return [self.used_journals(cluster, number)[-2:] for number in (0, 1)]
        if row == "SST":
            return [sorted(store.glob("*.sst"), key=lambda path: path.stat().st_size)[-2:]]
        if row == "SST of the copy":
            return [sorted(copy.glob("*.sst*"), key=lambda path: path.stat().st_size)[-2:]]
        if row == "MANIFEST":
            manifest = store / (store / "CURRENT").read_text().strip()
            return [[sorted(store.glob("OPTIONS-*"))[-1], manifest]]
        if row == "version file":
            return [[cluster.folders[1] / "store-copy" / "BACKUP", cluster.folders[1] / "VERSION"]]
        folder = pathlib.Path(cluster.volumes.get(0, [cluster.root / "datanode-0"])[0])
        blocks = [path for path in folder.rglob("blk_*") if "finalized" in path.parts]
        metas = sorted(path for path in blocks if path.suffix == ".meta")
        if row == "checksum file":
            return [metas[-2:]]
        return [[path for path in sorted(blocks) if path.suffix != ".meta"][-2:]]

    def stale_of(self, cluster, path):
        """The file as it was in an earlier life, or else one of its kind from then."""
        old = self.root / "stale" / path.relative_to(cluster.root)
        same = sorted(old.parent.glob(f"MANIFEST-*" if path.name.startswith("MANIFEST") else f"*{path.suffix}"))
        return old if old.exists() else same[-1] if same else None

    def older_replica(self, row, cluster):
        """A file of a replica that was appended to, and the same before that."""
        for old in sorted((self.root / "stale" / "datanode-0").rglob("blk_*")):
            is_sum = old.suffix == ".meta"
            name = old.name.rsplit("_", 1)[0] + "_*.meta" if is_sum else old.name
            for path in (cluster.root / "datanode-0").rglob(name):
                if is_sum == (row == "checksum file") and "finalized" in path.parts and path.read_bytes() != old.read_bytes():
                    return path, old
        raise AssertionError("no replica has changed since the first life")

    # Cells.

    def damage(self, row, column, cluster):
        """Does the damage; none if there is no such thing."""
        for files in self.targets(row, cluster):
            path = files[-1]
            if column == "bit flip":
                flip(path)
            elif column == "zeroed page":
                zero_page(path)
            elif column == "truncation":
                truncate(path)
            elif column == "torn write":
                tear(path)
            elif column == "swapped":
                swap(files[0], path)
            elif column == "stale copy" and row in REPLICA:
                path, old = self.older_replica(row, cluster)
                shutil.copy(old, path)
            elif column == "stale copy":
                old = self.stale_of(cluster, path) or self.stale_of(cluster, files[0])
                if old is None:
                    return None
                shutil.copy(old, path)
            self.damaged = (path, path.read_bytes())
        return True

    def static_cell(self, row, column):
        cluster = self.fresh()
        kept = cluster.root / "kept"
        kept.mkdir()
        if self.damage(row, column, cluster) is None:
            return "–"
        try:
            return self.judge(row, cluster)
        except TimeoutError as error:
            return f"HUNG ({error})"
        finally:
            cluster.stop(9)

    def judge(self, row, cluster):
        drop_page_cache()
        on_datanode = row in REPLICA
        started = cluster.everything()
        if not started:
            words = cluster.words()
            if row == "journal, every copy" and ("nothing was changed" in words or "Put back" in words):
                return "refused"
            return f"REFUSED ({words})"
        cluster.leave_safe_mode()
        lost = self.ledger.lost_names(cluster)
        if lost:
            return f"LOST {lost[:3]}"
        until(lambda: live(cluster) == 2, what="the datanodes")
        for _ in range(3):
            wrong, unread = self.ledger.bad_files(cluster)
            if wrong:
                return f"WRONG {wrong[:3]}"
            if not unread:
                break
        if unread:
            return f"LOST {unread[:3]}"
        if on_datanode:
            return self.replaced(cluster)
        scrub = cluster.admin("scrub")
        if scrub.returncode != 0 and not cluster.namenode.alive():
            # It met the rot, and ended: the next start mends it.
            if not cluster.up():
                return f"REFUSED ({cluster.words()})"
            cluster.leave_safe_mode()
            lost = self.ledger.lost_names(cluster)
            return f"LOST {lost[:3]}" if lost else "ended, healed"
        health = cluster.admin("data-health")
        text = health.stdout.decode()
        if health.returncode != 0:
            return f"PROBLEM ({text.strip().splitlines()[-1]})"
        return "healed" if "found" in text else "harmless"

    def replaced(self, cluster):
        """Nobody reads the damaged file any more, and the datanode still finds it."""
        path, damaged = self.damaged
        try:
            until(lambda: not path.exists() or path.read_bytes() != damaged, what="the damage is found")
            until(lambda: all_whole(cluster), 120, "all blocks are whole again")
        except TimeoutError as error:
            return f"PROBLEM (served from another, but {error})"
        wrong, unread = self.ledger.bad_files(cluster)
        return f"WRONG {(wrong + unread)[:3]}" if wrong or unread else "replaced"

    def datanode_cell(self, column):
        """The only disk of one of two datanodes fails while files are written."""
        place = self.root / f"small-{self.cells}"
        place.mkdir()
        small = Small(place)
        cluster = self.fresh(**{"datanode-0": small.mount / "data"})
        cluster.volumes[0] = [small.mount / "data"]
        config = cluster.root / "datanode-0.toml"
        config.write_text(config.read_text().replace(str(cluster.root / "datanode-0"), str(small.mount / "data")))
        run("sync", "-f", str(small.mount))
        ledger = Ledger()
        try:
            if not cluster.everything():
                return f"REFUSED ({cluster.words()})"
            cluster.leave_safe_mode()
            until(lambda: live(cluster) == 2, what="the datanodes")
            break_disk(small, column)
            done = sum(ledger.put(cluster, f"/during-{number}", bytes(((number + 1) * place) % 251 for place in range(90_000)))
                       for number in range(30))
            wrong, unread = ledger.bad_files(cluster)
            if wrong or unread:
                return f"WRONG {(wrong + unread)[:3]}"
            if done < 15:
                return f"PROBLEM (only {done} of 30 files could be written)"
            mend_disk(small, column)
            if column != "ENOSPC":
                # A new disk, or the same after a repair: its datanode is started again.
                cluster.datanodes[0].kill(9)
                small.detach()
                subprocess.run(["fsck.ext4", "-y", str(small.image)], capture_output=True)
                small.attach()
                cluster.start_datanode(0)
            until(lambda: live(cluster) == 2, what="the datanodes")
            until(lambda: all_whole(cluster), 120, "all blocks are whole again")
            for books in (ledger, self.ledger):
                wrong, unread = books.bad_files(cluster)
                if wrong or unread:
                    return f"WRONG {(wrong + unread)[:3]}"
            return "goes on with another, whole again"
        except TimeoutError as error:
            return f"HUNG ({error})"
        finally:
            cluster.stop(9)
            small.gone()

    def running_cell(self, row, column):
        """The disk of a data folder fails under a running namenode that makes folders."""
        which = DISKS[row]
        if row in REPLICA:
            return self.datanode_cell(column)
        place = self.root / f"small-{self.cells}"
        place.mkdir()
        small = Small(place)
        folders = {name: small.mount / name for name in which}
        cluster = self.fresh(**folders)
        ledger = Ledger()
        # What the cell begins with is on the disk.
        run("sync", "-f", str(small.mount))
        try:
            if not cluster.up():
                return f"REFUSED ({cluster.words()})"
            cluster.leave_safe_mode()
            for number in range(5):
                ledger.mkdir(cluster, f"/before-{number}")
            break_disk(small, column)
            for number in range(400):
                if not ledger.mkdir(cluster, f"/during/{number}") and not cluster.namenode.alive():
                    break
                if which == "b" and "left" in cluster.admin("data-health").stdout.decode() and number > 20:
                    break
            ended = not cluster.namenode.alive()
            degraded = not ended and "left" in cluster.admin("data-health").stdout.decode()
            mend_disk(small, column)
            if degraded and column in ("ENOSPC", "no answer"):
                until(lambda: cluster.admin("data-health").returncode == 0, what="the copy's return")
            cluster.stop(9)
            if column not in ("ENOSPC", "no answer"):
                small.detach()
                subprocess.run(["fsck.ext4", "-y", str(small.image)], capture_output=True)
                small.attach()
            if not cluster.up():
                return f"REFUSED ({cluster.words()})"
            cluster.leave_safe_mode()
            lost = ledger.lost_names(cluster) or self.ledger.lost_names(cluster)
            if lost:
                return f"LOST {lost[:3]}"
            if column == "no answer" and not degraded:
                return "PROBLEM (the copy on the silent disk was not left)"
            if ended:
                return "ended, whole after a restart"
            return "goes on, comes back" if degraded else "harmless"
        except TimeoutError as error:
            return f"HUNG ({error})"
        finally:
            cluster.stop(9)
            small.gone()

    def silent_cell(self, row):
        """The disk with the store does not answer under a running namenode: without it nothing goes on."""
        place = self.root / f"small-{self.cells}"
        place.mkdir()
        small = Small(place)
        cluster = self.fresh(**{name: small.mount / name for name in DISKS[row]})
        ledger = Ledger()
        run("sync", "-f", str(small.mount))
        try:
            if not cluster.up():
                return f"REFUSED ({cluster.words()})"
            cluster.leave_safe_mode()
            ledger.mkdir(cluster, "/before")
            small.fall_silent()
            command = [str(cluster.binary), "fs", "mkdir", "/during"]
            waiting = subprocess.Popen(command, env={**os.environ, "STEADFS_URL": cluster.url, "HADOOP_USER_NAME": "root"},
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until(lambda: "does not answer" in cluster.admin("data-health").stdout.decode(), what="it is told")
            lost = ledger.lost_names(cluster) or self.ledger.lost_names(cluster)
            if waiting.poll() is not None:
                return f"PROBLEM (a change was answered with {waiting.returncode})"
            small.answer()
            if waiting.wait(timeout=60) == 0:
                ledger.folders.add("/during")
            until(lambda: cluster.admin("data-health").returncode == 0, what="all is well")
            for life in range(2):
                lost = lost or ledger.lost_names(cluster) or self.ledger.lost_names(cluster)
                if lost:
                    return f"LOST {lost[:3]}"
                if life == 0:
                    cluster.stop(9)
                    if not cluster.up():
                        return f"REFUSED ({cluster.words()})"
                    cluster.leave_safe_mode()
            return "waits, says so"
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            return f"HUNG ({error})"
        finally:
            small.answer()
            cluster.stop(9)
            small.gone()

    def unreadable_cell(self, row):
        """The file lies on a disk of which a part cannot be read."""
        cluster = self.fresh()
        place = self.root / f"unreadable-{self.cells}"
        place.mkdir()
        small = Small(place)
        try:
            paths = [files[-1] for files in self.targets(row, cluster)]
            for number, path in enumerate(paths):
                shutil.copy(path, small.mount / f"{number}-{path.name}")
                path.unlink()
                path.symlink_to(small.mount / f"{number}-{path.name}")
            run("sync", "-f", str(small.mount))
            # The backing file ends where the first file's bytes begin.
            first = min(first_block(path) for path in paths)
            if not first:
                return "–"
            drop_page_cache()
            with open(small.image, "r+b") as image:
                image.truncate(first * 4096)
            if row not in REPLICA:
                return self.judge(row, cluster)
            return self.unreadable_replica(cluster, paths[0])
        except TimeoutError as error:
            return f"HUNG ({error})"
        finally:
            cluster.stop(9)
            small.gone()

    def unreadable_replica(self, cluster, path):
        """As [`Matrix.judge`]; the bytes cannot be compared, but the file must be put away."""
        if not cluster.everything():
            return f"REFUSED ({cluster.words()})"
        cluster.leave_safe_mode()
        until(lambda: live(cluster) == 2, what="the datanodes")
        wrong, unread = self.ledger.bad_files(cluster)
        if wrong or unread:
            return f"WRONG {(wrong + unread)[:3]}"
        until(lambda: not path.is_symlink(), what="the damage is found")
        until(lambda: all_whole(cluster), 120, "all blocks are whole again")
        wrong, unread = self.ledger.bad_files(cluster)
        return f"WRONG {(wrong + unread)[:3]}" if wrong or unread else "replaced"

    def cell(self, row, column):
        if column == "no answer" and "a" in DISKS[row] and row not in REPLICA:
            return self.silent_cell(row)
        if column in ("EIO on write", "ENOSPC", "failing sync", "no answer"):
            return self.running_cell(row, column)
        if column == "EIO on read":
            return self.unreadable_cell(row)
        return self.static_cell(row, column)


def break_disk(small, column):
    {"ENOSPC": small.fill_disk, "no answer": small.fall_silent}.get(column, small.fill_back)()


def mend_disk(small, column):
    {"ENOSPC": small.empty_disk, "no answer": small.answer}.get(column, small.empty_back)()


def first_block(path):
    """Where on its disk, in blocks of 4 KiB, a file's bytes begin; 0 if that cannot be told."""
    extents = subprocess.run(["filefrag", "-v", str(path)], capture_output=True, text=True)
    blocks = [line.split() for line in extents.stdout.splitlines() if line.strip()[:2].strip(":").isdigit()]
    return min(int(block[3].rstrip(".")) for block in blocks) if blocks else 0


def all_whole(cluster):
    report = cluster.report() or {}
    return report and not any(report[name] for name in ("under_replicated", "missing", "corrupt", "pending_deletion"))


def live(cluster):
    report = cluster.run("admin", "--json", "report")
    return json.loads(report.stdout)["live_datanodes"] if report.stdout else 0


def copy_tree_into(source, target):
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


ROWS = ["journal, one copy", "journal, every copy", "SST", "SST of the copy", "MANIFEST", "version file", "block file",
        "checksum file"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("rows", nargs="*", default=ROWS)
    arguments = parser.parse_args()
    # Who is told to stop leaves no mount behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    columns = arguments.columns.split(",")
    bad, lines = 0, []
    with tempfile.TemporaryDirectory(prefix="steadfs-matrix-", ignore_cleanup_errors=True) as root:
        matrix = Matrix(arguments.binary, root)
        matrix.prepare()
        for row in arguments.rows or ROWS:
            cells = []
            for column in columns:
                verdict = matrix.cell(row, column)
                cells.append(verdict)
                bad += verdict.split(" ")[0] in ("LOST", "WRONG", "HUNG", "REFUSED", "PROBLEM")
                print(f"{row} × {column}: {verdict}", flush=True)
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    print("\n| | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1))
    print("\n".join(lines))
    print(f"\n{bad} cells failed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
