#!/usr/bin/env python3
"""Backups put back, and namenodes that lost this or that, with real processes: what docs/OPERATIONS.md tells an operator to do is
done here word for word, and each refusal says what to do.

    restore.py [--binary FILE] [NAME...]      NAMEs of checks; all of them without
"""

import argparse
import contextlib
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))

from bench import Cluster, Ledger, copy_tree, until  # noqa: E402
from suite import Suite, has, same  # noqa: E402

GUIDE = HERE.parent.parent / "docs" / "OPERATIONS.md"
SECTION = "### The namenode's own data"
BACKUP = "/backups/2026-11-21"


def guide():
    """The commands of the guide's section, without their comments, in order."""
    text = GUIDE.read_text()
    section = text[text.index(SECTION):].split("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.S) for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


class Case:
    """A cluster with something in it, and a backup of it."""

    def __init__(self, binary, root, settings=None):
        self.binary, self.root = pathlib.Path(binary).resolve(), pathlib.Path(root)
        self.cluster = Cluster(self.binary, self.root / "c", datanodes=2, settings=settings)
        self.backup = self.root / "backup"
        self.before, self.after = Ledger(), Ledger()

    def fill(self):
        assert self.cluster.everything(), self.cluster.words()
        self.cluster.leave_safe_mode()
        self.live()
        self.write(self.before, "old")

    def live(self):
        def both():
            report = self.cluster.report()
            return report and sum(node["live"] for node in report["datanodes"]) == 2
        until(both, what="the datanodes")

    def write(self, ledger, name, count=4):
        for number in range(count):
            until(lambda path=f"/{name}-dir-{number}": ledger.mkdir(self.cluster, path), what=f"a folder of {name}")
            data = bytes((number * 7 + place) % 253 for place in range(100_000 + 90_000 * number))
            path = f"/{name}-{number}"
            until(lambda data=data, path=path: ledger.put(self.cluster, path, data), what=f"put {path}")

    def said(self, name):
        """A line of the guide that begins so, with this case's paths, as it is run."""
        lines = [line for line in guide() if line.startswith(name)]
        assert lines, f"the guide has no `{name}`"
        line = lines[0].replace(BACKUP, str(self.backup)).replace("namenode.toml", str(self.cluster.root / "namenode.toml"))
        return shlex.split(line)[1:]

    def do(self, name, expected=0):
        done = self.cluster.run(*self.said(name))
        told = (done.stdout + done.stderr).decode(errors="replace")
        same(done.returncode, expected, f"exit code of `{name}` ({told.strip()})")
        return told

    def wipe(self):
        for folder in self.cluster.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def files(self):
        return {path: path.stat().st_mtime_ns for folder in self.cluster.folders for path in folder.rglob("*") if path.is_file()}

    def blocks_on_disk(self):
        return {path.name for number in range(2) for path in (self.cluster.root / f"datanode-{number}").rglob("blk_*")
                if "finalized" in path.parts and path.suffix != ".meta"}

    def reads(self, ledger):
        same(ledger.lost_names(self.cluster), [], "names that are gone")
        wrong, unread = ledger.bad_files(self.cluster)
        same((wrong, unread), ([], []), "files with wrong bytes, and that cannot be read")

    def refuses(self, *parts):
        """A start says why it does not start, with these words, and changes nothing."""
        before = self.files()
        assert not self.cluster.up(), "it started"
        words = self.cluster.words()
        for part in parts:
            has(words, part)
        # The lock is touched, and RocksDB writes anew what it keeps about its tables.
        changed = [str(path) for path, at in before.items() if path.exists() and path.stat().st_mtime_ns != at
                   and path.name not in ("in_use.lock", "LOG", "CURRENT") and not path.name.startswith(("LOG.", "OPTIONS-"))]
        same(changed, [], "files that were changed by a start that was refused")

    def sound(self, code, *parts):
        """`steadfs namenode check` ends with this code and says these things."""
        done = self.cluster.run("namenode", "check", *map(str, self.cluster.folders))
        told = (done.stdout + done.stderr).decode(errors="replace")
        same(done.returncode, code, f"exit code of check ({told.strip()})")
        for part in parts:
            has(told, part)

    def end(self):
        for process in [*self.cluster.datanodes, self.cluster.namenode]:
            with contextlib.suppress(Exception):
                if process:
                    process.kill(9)


def flip_all(folder, pattern):
    files = list(folder.glob(pattern))
    assert files, f"no {pattern} in {folder}"
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0x10
        path.write_bytes(data)


def taken_under_load(case):
    """A backup while others write; everything that was acknowledged before it began is in it."""
    stop, extra = threading.Event(), Ledger()

    def load():
        number = 0
        while not stop.is_set():
            extra.mkdir(case.cluster, f"/load-{number}")
            number += 1

    writer = threading.Thread(target=load)
    writer.start()
    try:
        until(lambda: len(extra.folders) >= 3, what="a load")
        case.do("steadfs admin backup")
    finally:
        stop.set()
        writer.join()
    has(case.do("steadfs namenode verify-backup"), "whole: cluster SFS-")


def the_whole_way_back(case):
    """Backup under load, everything lost, restored, refused by datanodes, accepted, read, kept, let go."""
    case.fill()
    taken_under_load(case)
    case.write(case.after, "new")
    made = case.blocks_on_disk()
    assert case.cluster.fs("rm", "--skip-trash", "/old-0").returncode == 0
    case.cluster.namenode.kill()
    case.wipe()
    has(case.do("steadfs namenode restore"), "restored: cluster SFS-")
    case.sound(0, "sound")
    # The datanodes live on, and know better.
    assert case.cluster.up(), case.cluster.words()

    def told():
        health = case.cluster.admin("data-health")
        return (health.stdout + health.stderr).decode() if health.returncode == 1 else None
    text = until(lambda: (words := told()) and "OLD DATA" in words and words, what="the refusal")
    has(text, "THIS NAMENODE RUNS ON OLD DATA")
    has(text, "steadfs namenode accept-loss")
    has(GUIDE.read_text(), "THIS NAMENODE RUNS ON OLD DATA")
    same(case.cluster.admin("report").returncode, 1, "the report's exit code")
    case.cluster.namenode.kill()
    has(case.do("steadfs namenode accept-loss"), "start the namenode")
    has(case.do("steadfs namenode accept-loss"), "start the namenode")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    # A file deleted since is there again by name; its blocks may be gone.
    case.before.files.pop("/old-0")
    has(case.cluster.fs("ls", "-R", "--json", "/").stdout.decode(), "/old-0")
    case.reads(case.before)
    listing = case.cluster.fs("ls", "-R", "--json", "/").stdout.decode()
    assert "/new-0" not in listing, "what came after the backup is lost, as was said"
    until(lambda: re.search(r"[1-9]", case.do("steadfs admin kept")), what="kept blocks")
    # Nothing that was made since goes from the disks, though nobody has it.
    third = Ledger()
    case.write(third, "third", 2)
    case.reads(third)
    missing = made - case.blocks_on_disk()
    # Only what belonged to the deleted file may be gone.
    assert len(missing) <= 1, f"replicas went: {missing}"
    has(str(case.cluster.admin("data-health").stdout.decode()), "are kept")
    case.do("steadfs admin kept --delete")
    until(lambda: "are kept" not in case.cluster.admin("data-health").stdout.decode(), what="letting go")
    case.reads(case.before)
    case.reads(third)
    case.cluster.stop()
    case.sound(0, "sound")


def nothing_happened_since_the_backup(case):
    """A backup as new as what the datanodes heard needs no accept-loss, though the namenode had lives since."""
    case.fill()
    case.do("steadfs admin backup")
    for _ in range(3):
        case.cluster.namenode.kill(15)
        assert case.cluster.up(), case.cluster.words()
        case.live()
    case.cluster.namenode.kill()
    case.wipe()
    case.do("steadfs namenode restore")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)
    case.write(case.after, "new", 1)
    case.reads(case.after)


def half_a_backup_is_refused(case):
    """A backup that is cut, changed or without its end is refused by name, and nothing is made of it."""
    case.fill()
    case.do("steadfs admin backup")
    case.cluster.namenode.kill()
    whole = case.root / "whole"
    shutil.move(case.backup, whole)
    case.wipe()
    files = sorted((whole / "files").glob("*.sst"))

    def cut():
        path = case.backup / "files" / files[0].name
        path.write_bytes(path.read_bytes()[:-5])

    def gone():
        (case.backup / "files" / files[-1].name).unlink()

    def changed():
        flip_all(case.backup / "files", files[0].name)

    def unended():
        (case.backup / "BACKUP").unlink()

    def half_ended():
        path = case.backup / "BACKUP"
        path.write_bytes(path.read_bytes()[:-20])

    for damage, words in [(cut, "is not whole"), (gone, "is not whole"), (changed, "is not whole"), (unended, "BACKUP"),
                          (half_ended, "cut short")]:
        copy_tree(whole, case.backup)
        damage()
        has(case.do("steadfs namenode verify-backup", 1), words)
        has(case.do("steadfs namenode restore", 1), words)
        assert not any((folder / name).exists() for folder in case.cluster.folders for name in ("VERSION", "store", "journal")), \
            "something was made of it"
        shutil.rmtree(case.backup)
    shutil.move(whole, case.backup)
    case.do("steadfs namenode restore")
    assert case.cluster.up(), case.cluster.words()


def restored_twice(case):
    """A second restore is refused, with or without a start between."""
    case.fill()
    case.do("steadfs admin backup")
    case.cluster.namenode.kill()
    has(case.do("steadfs namenode restore", 1), "holds a namenode's data: a backup is restored into empty folders")
    case.wipe()
    case.do("steadfs namenode restore")
    has(case.do("steadfs namenode restore", 1), "Move what is there away; nothing was changed")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)
    # Running: in use, which is another sentence.
    has(case.do("steadfs namenode restore", 1), "in use by another process")


def a_lost_store_is_made_again(case):
    """The store is gone, the journal whole: made again from its copy, with the journal."""
    case.fill()
    assert case.cluster.admin("scrub").returncode == 0
    case.write(case.before, "later", 2)
    case.cluster.namenode.kill()
    shutil.rmtree(case.cluster.folders[0] / "store")
    case.sound(1, "is gone: a start makes it again")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)
    has((case.cluster.root / "namenode.log").read_text(), "it was made again from")


def a_lost_journal_is_refused(case):
    """Both copies of the journal are gone: refused with what to put back; put back, it starts."""
    case.fill()
    case.do("steadfs admin backup")
    case.write(case.before, "later", 2)
    case.cluster.namenode.kill()
    for number, folder in enumerate(case.cluster.folders):
        shutil.move(folder / "journal", case.root / f"journal-{number}")
    case.sound(2, "there is no copy of the journal")
    case.refuses("Put back the newest copies of the journal folders")
    for number, folder in enumerate(case.cluster.folders):
        shutil.rmtree(folder / "journal", ignore_errors=True)
        shutil.move(case.root / f"journal-{number}", folder / "journal")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)


def both_stores_rotten_is_refused(case):
    """The store and its copy have rotted, and the journal is short: refused, and a backup is the way out."""
    case.fill()
    # So much that the journal no longer begins with the first entry.
    for number in range(260):
        case.before.mkdir(case.cluster, f"/many-{number}")
    case.do("steadfs admin backup")
    assert case.cluster.admin("scrub").returncode == 0
    case.cluster.namenode.kill(15)
    a, b = case.cluster.folders
    first = sorted((a / "journal").glob("segment-*.log"))[0]
    flip_all(b / "store-copy" / "files", "*.sst*")
    (a / "store" / "CURRENT").write_text("MANIFEST-999999\n")
    whole_journal = first.name == "segment-00000000000000000001.log"
    if whole_journal:
        for folder in (a, b):
            (folder / "journal" / first.name).unlink()
    case.sound(2, "restore a backup into empty folders")
    case.refuses("Restore a backup into empty folders")
    case.wipe()
    case.do("steadfs namenode restore")
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)


def both_journals_rotten_is_refused(case):
    """An entry that the store lacks is damaged in both copies: refused, nothing cut; an intact copy put back helps."""
    case.fill()
    case.cluster.namenode.kill(9)
    newest = [sorted((folder / "journal").glob("segment-*.log"))[-1] for folder in case.cluster.folders]
    good = newest[0].read_bytes()
    for path in newest:
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    case.sound(2, "nothing was changed")
    case.refuses("is damaged in every copy", "Put back an intact copy of the journal folder; nothing was changed")
    newest[1].write_bytes(good)
    assert case.cluster.up(), case.cluster.words()
    case.live()
    case.cluster.leave_safe_mode()
    case.reads(case.before)


CASES = [the_whole_way_back, nothing_happened_since_the_backup, half_a_backup_is_refused, restored_twice,
         a_lost_store_is_made_again, a_lost_journal_is_refused, both_stores_rotten_is_refused, both_journals_rotten_is_refused]

# The store is never flushed, so that the journal alone has what is written.
SETTINGS = {"both_journals_rotten_is_refused": {"journal": {"flush_distance_entries": 1_000_000}, "upkeep": {"store_copy": False}}}


def run(case, binary):
    with tempfile.TemporaryDirectory(prefix="steadfs-restore-") as root:
        bench = Case(binary, root, SETTINGS.get(case.__name__))
        try:
            case(bench)
        finally:
            bench.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    suite = Suite()
    for case in CASES:
        if not arguments.names or case.__name__ in arguments.names:
            suite.check(case.__name__, run, case, arguments.binary)
    suite.end()


if __name__ == "__main__":
    main()
