"""What people run, on a mount: shell tools, archives, git, SQLite, pip, editors, Python's mmap, PyArrow, DuckDB, pandas, Spark.

programs_suite.py --binary STEADFS [--spark PYTHON]     run with the python of `scripts/setup pyclients`, as root

Each does what it does on a local disk, or fails with the errno that a person expects.
"""

import argparse
import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import Cluster, Failure
from suite import Suite, has, same

MIB = 1 << 20
LIMIT = 300


def content(seed, length):
    return random.Random(seed).randbytes(length)


class World:
    """A cluster, a mount of it, and a folder of the local disk beside."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.folder = Path(tempfile.mkdtemp(prefix="steadfs-programs-"))
        self.at = self.folder / "mnt"
        self.local = self.folder / "local"
        self.at.mkdir()
        self.local.mkdir()

    def mount(self, at=None, *options):
        at = at or self.at
        log = self.folder / f"{at.name}.log"
        self.run(self.cluster.binary, "mount", self.cluster.url, at, "--allow-other", "--staging",
                 self.folder / f"{at.name}-staging", "--log", log, *options)

    def unmount(self, at=None):
        self.run(self.cluster.binary, "umount", at or self.at)

    def end(self):
        for at in self.folder.iterdir():
            subprocess.run(["timeout", "20", self.cluster.binary, "umount", "--lazy", at], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *line, inside=None, check=True, stdin=subprocess.DEVNULL, environment=None):
        done = subprocess.run(["timeout", "-k", "5", str(LIMIT), *map(str, line)], cwd=inside or "/", text=True,
                              capture_output=True, stdin=stdin, env=dict(os.environ, **(environment or {})))
        if check and done.returncode != 0:
            raise Failure(f"{' '.join(map(str, line))} ({done.returncode}): {(done.stdout + done.stderr)[-800:]}")
        return done

    def shell(self, script, **options):
        return self.run("bash", "-euo", "pipefail", "-c", script, inside=self.at, **options).stdout

    def tree(self, name, files=120):
        """A tree on the local disk with files of all sizes, modes and times."""
        top = self.local / name
        for number in range(files):
            path = top / f"d{number % 9}" / ("e" * (number % 3)) / f"f{number} ü"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(f"{name} {number}", number * number * 37 % 400_000))
            path.chmod(0o644 if number % 4 else 0o750)
            os.utime(path, ns=(0, (1_500_000_000 + number) * 10**9 + 123_000_000))
        return top


def listing(top):
    """Everything below a folder with mode, size and time."""
    return sorted((str(path.relative_to(top)), path.is_dir(), path.stat().st_mode & 0o777,
                   None if path.is_dir() else (path.stat().st_size, path.stat().st_mtime_ns)) for path in top.rglob("*"))


def shell_tools(world):
    """df, ls -l, du, find, grep -r, cp, mv, sed -i, sort -o, split, dd, head, tail, wc, touch, truncate, chmod, install."""
    world.shell("df -h . | grep -q steadfs; df -i . >/dev/null; stat -f . >/dev/null")
    world.shell("mkdir -p sh/a/b; seq 1 20000 > sh/a/n; wc -l sh/a/n | grep -q 20000; tail -n1 sh/a/n | grep -qx 20000")
    world.shell("cp sh/a/n sh/a/b/m; cmp sh/a/n sh/a/b/m; mv sh/a/b/m sh/m; sed -i 's/^1$/one/' sh/m; head -1 sh/m | grep -qx one")
    world.shell("sort -rn sh/m -o sh/m; split -l 5000 sh/m sh/part.; cat sh/part.* | cmp - sh/m")
    world.shell("dd if=/dev/urandom of=sh/r bs=1M count=9 status=none; dd if=sh/r of=sh/r2 bs=333k status=none; cmp sh/r sh/r2")
    world.shell("dd if=sh/r of=sh/r2 bs=1M skip=3 seek=3 count=1 conv=notrunc,fsync status=none; cmp sh/r sh/r2")
    world.shell("printf xyz | dd of=sh/r2 bs=1 seek=1000 conv=notrunc status=none; cmp -n 1000 sh/r sh/r2; ! cmp -s sh/r sh/r2")
    world.shell("truncate -s 100M sh/sparse; test $(stat -c %s sh/sparse) = 104857600; rm sh/sparse")
    world.shell("touch -d '2001-02-03 04:05:06' sh/old; test \"$(stat -c %Y sh/old)\" = \"$(date -d '2001-02-03 04:05:06' +%s)\"")
    world.shell("find sh -newer sh/old -name 'part.*' | wc -l | grep -qx 4; find sh -size +8M | wc -l | grep -qx 2")
    world.shell("grep -rl one sh | sort | head -1 | grep -q sh/; ls -lR sh > /dev/null; du -sb sh > /dev/null; tree sh 2>/dev/null || true")
    world.shell("install -m 750 -o 1 -g 1 sh/a/n sh/i; test \"$(stat -c '%a %u %g' sh/i)\" = '750 1 1'")
    world.shell("echo more >> sh/i; tail -n1 sh/i | grep -qx more; tee -a sh/i < sh/a/n > /dev/null; ln sh/i sh/hard 2>&1 && exit 1 || true")
    world.shell("mktemp -p sh > /dev/null; cd sh; mkdir w; cd w; rmdir ../w; ! touch x 2>/dev/null; cd ..; rm -rf a; ! test -e a")


def copies(world):
    """cp -a, rsync -a, both ways, with all attributes; rsync finds nothing left to do, and --inplace what has changed."""
    tree = world.tree("copies")
    world.run("cp", "-a", tree, world.at / "cp")
    same(listing(world.at / "cp"), listing(tree), "what cp -a copied")
    world.run("diff", "-r", tree, world.at / "cp")
    world.run("rsync", "-a", f"{tree}/", world.at / "rsync")
    same(listing(world.at / "rsync"), listing(tree), "what rsync -a copied")
    same(world.run("rsync", "-ai", "--omit-dir-times", f"{tree}/", world.at / "rsync").stdout, "", "what rsync finds left to do")
    changed = tree / "d1" / "e" / "f1 ü"
    changed.write_bytes(content("changed", 300_000))
    world.run("rsync", "-a", "--inplace", "--checksum", f"{tree}/", world.at / "rsync")
    world.run("diff", "-r", tree, world.at / "rsync")
    world.run("rsync", "-a", "--delete", f"{world.at}/cp/", world.at / "rsync")
    world.run("diff", "-r", world.at / "cp", world.at / "rsync")
    world.run("cp", "-a", world.at / "rsync", world.local / "back")
    same(listing(world.local / "back"), listing(world.at / "rsync"), "what came back")


def archives(world):
    """tar, with gzip and from a pipe; zip and unzip, which write at earlier places; a growing tar."""
    tree = world.tree("archives", 60)
    at = world.at / "archives"
    at.mkdir()
    world.run("tar", "--format=posix", "-czf", at / "a.tar.gz", "-C", tree.parent, tree.name)
    world.run("tar", "xzf", at / "a.tar.gz", "-C", at)
    same(listing(at / tree.name), listing(tree), "what tar unpacked")
    world.shell(f"tar cf - -C '{tree}' . | (mkdir archives/piped; tar xf - -C archives/piped); diff -r '{tree}' archives/piped")
    world.shell("cd archives; tar cf g.tar piped/d0; tar rf g.tar piped/d1; tar tf g.tar | grep -q piped/d1/; tar df g.tar")
    world.shell("cd archives; zip -qr z.zip piped; zip -q z.zip a.tar.gz; zip -qd z.zip 'piped/d2/*'; unzip -tq z.zip >/dev/null")
    world.shell("cd archives; mkdir u; cd u; unzip -q ../z.zip; diff -r piped/d3 ../piped/d3; cmp a.tar.gz ../a.tar.gz; ! test -e piped/d2/e")


def git(world):
    """init, commit, clone both ways, branch, merge, gc, fsck, worktree, stash."""
    identity = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e@x", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e@x"}
    run = lambda script: world.shell(script, environment=identity)
    run("mkdir git; cd git; git init -q one; cd one; for i in $(seq 60); do echo $i > f$i; done; git add .; git commit -qm first")
    run("cd git/one; git checkout -qb side; echo side >> f1; git commit -qam side; git checkout -q -; echo main >> f2; git commit -qam main; git merge -q --no-edit side")
    run("cd git/one; echo x > f3; git stash -q; git stash pop -q; git checkout -q f3; git gc -q --aggressive --prune=now; git fsck --strict 2>/dev/null; git status --porcelain | wc -l | grep -qx 0")
    run(f"git clone -q git/one '{world.local}/clone'; git clone -q 'file://{world.local}/clone' git/two; diff -r -x .git git/one git/two")
    run("cd git/two; git worktree add -q ../three; git log --oneline | wc -l | grep -qx 4; git push -q origin HEAD:refs/heads/pushed")
    run("cd git; git clone -q --bare one bare; cd two; git remote add bare ../bare; echo y > new; git add new; git commit -qm new; git push -q bare HEAD:refs/heads/n; git -C ../bare fsck --strict 2>/dev/null")


def sqlite(world):
    """A database is made, read, changed with a rollback journal and with every way of syncing, rolled back, vacuumed.
    With WAL, one process at a time."""
    import sqlite3
    at = world.at / "sqlite"
    at.mkdir()
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"]:
        path = at / f"{mode}.db"
        base = sqlite3.connect(path)
        if mode == "WAL":
            # Memory shared between processes is what a mount cannot give.
            base.execute("PRAGMA locking_mode=EXCLUSIVE")
        same(base.execute(f"PRAGMA journal_mode={mode}").fetchone()[0], mode.lower(), "journal")
        base.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        with base:
            base.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"value {n}" * 20) for n in range(3_000)])
        for number in range(5):
            with base:
                base.execute("UPDATE t SET v = ? WHERE k % 7 = ?", (f"changed {number}", number))
        try:
            with base:
                base.execute("DELETE FROM t")
                raise KeyError
        except KeyError:
            pass
        base.execute("VACUUM")
        base.close()
        again = sqlite3.connect(path)
        same(again.execute("PRAGMA integrity_check").fetchone()[0], "ok", "the check")
        same(again.execute("SELECT count(*), sum(v LIKE 'changed%') FROM t").fetchone(), (3_000, 2_144), "rows")
        again.close()
    # Two connections: one waits for the other.
    one, two = (sqlite3.connect(at / "DELETE.db", timeout=0.2, isolation_level=None) for _ in range(2))
    one.execute("BEGIN IMMEDIATE")
    try:
        two.execute("BEGIN IMMEDIATE")
        raise AssertionError("two writers at once")
    except sqlite3.OperationalError as error:
        has(str(error), "locked")
    one.execute("ROLLBACK")
    two.execute("BEGIN IMMEDIATE")
    two.execute("COMMIT")
    same(world.run("sqlite3", at / "TRUNCATE.db", "SELECT count(*) FROM t").stdout.strip(), "3000", "the shell's count")


def pip(world):
    """pip install --target from a wheel, and the package is imported from the mount; a venv is made and works."""
    source = world.local / "package"
    (source / "wheelhouse_probe").mkdir(parents=True)
    for number in range(40):
        (source / "wheelhouse_probe" / f"m{number}.py").write_text(f"VALUE = {number}\n")
    (source / "wheelhouse_probe" / "__init__.py").write_text("from . import m7\nANSWER = m7.VALUE * 6\n")
    info = source / "wheelhouse_probe-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wheelhouse-probe\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("".join(f"{path.relative_to(source)},,\n" for path in source.rglob("*") if path.is_file()))
    wheel = world.local / "wheelhouse_probe-1.0-py3-none-any.whl"
    world.run("zip", "-qr", wheel, ".", inside=source)
    world.run(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", world.at / "site", wheel)
    program = "import wheelhouse_probe, sys; print(wheelhouse_probe.ANSWER)"
    environment = {"PYTHONPATH": str(world.at / "site"), "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(2):
        same(world.run(sys.executable, "-c", program, environment=environment).stdout.strip(), "42", "what was imported")
    world.run(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade", "--target", world.at / "site", wheel)
    # Links are what a mount cannot hold: a venv wants copies, and none for lib64.
    done = world.run(sys.executable, "-m", "venv", "--copies", "--without-pip", world.at / "venv", check=False)
    if done.returncode:
        has(done.stdout + done.stderr, "Operation not permitted")


def editors(world):
    """vim writes in place and by renaming, and recovers; less and less +F read; ed and perl -i change."""
    at = world.at / "editors"
    at.mkdir()
    for number, options in enumerate(["set backup", "set nobackup nowritebackup", "set backupcopy=yes", "set backupcopy=no"]):
        path = at / f"text{number}"
        path.write_text("one\ntwo\nthree\n")
        path.chmod(0o640)
        world.run("vim", "-u", "NONE", "-es", "-c", options, "-c", "%s/two/2/", "-c", "wq", path)
        same((path.read_text(), path.stat().st_mode & 0o777), ("one\n2\nthree\n", 0o640), f"what vim wrote with {options}")
    same(sorted(name for name in os.listdir(at) if name.endswith(".swp")), [], "swap files left")
    same(world.run("less", at / "text0").stdout, "one\n2\nthree\n", "what less shows")
    world.run("perl", "-pi", "-e", "s/one/1/", at / "text0")
    same((at / "text0").read_text(), "1\n2\nthree\n", "what perl -i left")
    # What `less +F` and `tail -f` do: read on as a file grows that another writes and flushes.
    with open(at / "log", "wb", buffering=0) as log, open(at / "log", "rb", buffering=0) as follower:
        for number in range(20):
            line = b"line %d\n" % number
            log.write(line)
            if number % 5 == 0:
                os.fsync(log.fileno())
            same(follower.read(), line, "what follows")


def mapped(world):
    """Python's mmap, private, shared for reading and shared for writing, with msync; a file that grows under it."""
    path = world.at / "mapped"
    expected = bytearray(content("mapped", 3 * MIB + 123))
    path.write_bytes(expected)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        same(hashlib.sha256(pages).digest(), hashlib.sha256(expected).digest(), "mapped bytes")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as pages:
        pages[:5] = b"mine!"
        same(pages[:5], b"mine!", "private bytes")
    same(path.read_bytes() == expected, True, "the file is untouched")
    with open(path, "r+b") as file:
        try:
            with mmap.mmap(file.fileno(), 0) as pages:
                for start in (0, 4_095, 2 * MIB + 7, len(expected) - 3):
                    pages[start:start + 3] = expected[start:start + 3] = b"abc"
                pages.flush()
        except OSError as error:
            same(error.errno, errno.ENODEV, "why a shared map is refused")
    same(path.read_bytes() == expected, True, "what was written through memory")


def arrow(world):
    """PyArrow memory_map of Arrow and Parquet files, DuckDB on Parquet (also written by it), pandas, Polars."""
    import duckdb
    import pandas
    import polars
    import pyarrow as pa
    import pyarrow.dataset as datasets
    import pyarrow.parquet as parquet
    at = world.at / "arrow"
    at.mkdir()
    rows = 300_000
    table = pa.table({"k": range(rows), "g": [n % 10 for n in range(rows)], "v": [f"v{n}" for n in range(rows)]})
    with pa.OSFile(str(at / "t.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, 50_000)
    with pa.memory_map(str(at / "t.arrow")) as source:
        same(pa.ipc.open_file(source).read_all().equals(table), True, "the Arrow file")
    parquet.write_table(table, at / "t.parquet", row_group_size=20_000)
    same(parquet.read_table(at / "t.parquet", memory_map=True).equals(table), True, "the Parquet file")
    same(parquet.read_table(at / "t.parquet", columns=["v"], filters=[("k", ">", rows - 3)]).num_rows, 2, "rows kept")
    datasets.write_dataset(table, at / "set", format="parquet", partitioning=["g"])
    same(datasets.dataset(at / "set", partitioning=["g"]).count_rows(), rows, "rows of a dataset")
    same(duckdb.sql(f"SELECT g, count(*) FROM '{at}/t.parquet' GROUP BY g ORDER BY g LIMIT 1").fetchone(), (0, rows // 10), "DuckDB's count")
    duckdb.sql(f"COPY (SELECT * FROM '{at}/t.parquet' WHERE g = 3) TO '{at}/d.parquet'")
    base = duckdb.connect(str(at / "base.duckdb"))
    base.execute(f"CREATE TABLE t AS SELECT * FROM '{at}/d.parquet'")
    base.execute("UPDATE t SET v = 'x' WHERE k < 1000")
    base.close()
    same(duckdb.connect(str(at / "base.duckdb")).execute("SELECT count(*) FROM t WHERE v = 'x'").fetchone(), (100,), "DuckDB's own file")
    frame = pandas.read_parquet(at / "t.parquet")
    same((len(frame), int(frame.k.sum())), (rows, rows * (rows - 1) // 2), "pandas' frame")
    frame.head(1_000).to_csv(at / "t.csv")
    same(len(pandas.read_csv(at / "t.csv")), 1_000, "rows of the CSV")
    same(polars.scan_parquet(at / "t.parquet").filter(polars.col("g") == 1).collect().height, rows // 10, "rows of Polars")


def spark(world, python):
    """Spark reads and writes file:///mnt/…, with Hadoop's committer (renames) and overwriting."""
    program = f"""
from pyspark.sql import SparkSession
s = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2").getOrCreate()
at = "file://{world.at}/spark"
s.range(100000).selectExpr("id", "id % 4 AS g").write.partitionBy("g").parquet(at)
s.range(50000).selectExpr("id", "id % 4 AS g").write.mode("overwrite").partitionBy("g").parquet(at)
d = s.read.parquet(at)
assert d.count() == 50000 and d.where("g = 2").count() == 12500, d.count()
d.coalesce(1).write.mode("overwrite").csv(at + "-csv", header=True)
assert s.read.csv(at + "-csv", header=True).count() == 50000
s.stop()
"""
    world.run(python, "-c", program, environment={"PYSPARK_PYTHON": python})
    same((world.at / "spark" / "_SUCCESS").exists(), True, "the marker of success")


def compilers(world):
    """make and gcc build in a mount, and what they built runs from it; make sees what is newer."""
    at = world.at / "build"
    at.mkdir()
    for number in range(8):
        (at / f"m{number}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
    (at / "main.c").write_text("".join(f"int f{n}(void);\n" for n in range(8)) + '#include <stdio.h>\nint main(void) { printf("%d\\n", ' + "+".join(f"f{n}()" for n in range(8)) + "); return 0; }\n")
    objects = " ".join(f"m{n}.o" for n in range(8))
    (at / "Makefile").write_text(f"all: prog\nprog: main.o lib.a\n\tgcc -o $@ main.o lib.a\nlib.a: {objects}\n\tar rcs $@ $^\n")
    world.run("make", "-s", "-j2", "-C", at)
    same(world.run(at / "prog").stdout, "28\n", "what the program says")
    has(world.run("make", "-C", at).stdout, "Nothing to be done")
    os.utime(at / "m3.c")
    has(world.run("make", "-n", "-C", at).stdout, "m3.o")
    script = at / "script.sh"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    same(world.run(script).stdout, "ran\n", "what the script says")


def locks(world):
    """flock(1), fcntl by Python: who comes second is refused, ranges are kept apart, closing gives up."""
    path = world.at / "locked"
    path.write_bytes(b"x" * 100)
    world.shell("exec 9>lockfile; flock -n 9; ! flock -n lockfile true; exec 9>&-; flock -n lockfile true")
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
        program = f"""
import fcntl
f = open({str(path)!r}, "r+b")
try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5); raise SystemExit("taken twice")
except BlockingIOError: pass
fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)
"""
        world.run(sys.executable, "-c", program)
    program = f"import fcntl; fcntl.lockf(open({str(path)!r}, 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    world.run(sys.executable, "-c", program)


def refusals(world):
    """What cannot be: links, devices, FIFOs, sockets EPERM; O_DIRECT, O_TMPFILE as a local disk or with an errno that programs know."""
    at = world.at / "refused"
    at.mkdir()
    (at / "f").write_text("x")

    def errno_of(call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno]
        return None

    same(errno_of(os.link, at / "f", at / "g"), "EPERM", "a hard link")
    same(errno_of(os.symlink, "/etc/passwd", at / "s"), "EPERM", "a symbolic link out of the tree")
    same(errno_of(os.mkfifo, at / "p"), "EPERM", "a FIFO")
    same(errno_of(os.mknod, at / "n", 0o020644, os.makedev(1, 3)), "EPERM", "a device")
    same(errno_of(os.open, at, os.O_TMPFILE | os.O_RDWR), "ENOTSUP", "a file without a name")
    same(errno_of(os.mkdir, at / ("n" * 256)), "ENAMETOOLONG", "a long name")
    same(errno_of(os.mkdir, os.fsencode(at) + b"/\xff"), "EILSEQ", "a name that is not UTF-8")
    same(errno_of(os.mkdir, at / "a:b"), "EINVAL", "a name with a colon")
    same(errno_of(os.rmdir, world.at), "EBUSY", "removing the mount point")
    deep = at
    for level in range(40):
        deep = deep / ("x" * 200)
        wrong = errno_of(os.mkdir, deep) if len(str(deep)) < 4_000 else "too long for one call"
        if wrong:
            break
    # Linux takes 4,095 bytes a call; deeper trees are made step by step.
    world.shell(f"cd refused; for i in $(seq 45); do mkdir {'y' * 200} 2>/dev/null || exit 0; cd {'y' * 200}; done; exit 1")
    world.shell("rm -rf refused; ! test -e refused")


CHECKS = [shell_tools, copies, archives, git, sqlite, pip, editors, mapped, arrow, compilers, locks, refusals]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--spark", help="a python with PySpark")
    parser.add_argument("--only", action="append", help="names of checks")
    options = parser.parse_args()
    suite = Suite()
    with Cluster(options.binary) as cluster:
        world = World(cluster)
        try:
            world.mount()
            for check in CHECKS:
                if not options.only or check.__name__ in options.only:
                    suite.check(check.__name__, check, world)
            if options.spark and (not options.only or "spark" in options.only):
                suite.check("spark", spark, world, options.spark)
            world.unmount()
            if suite.failed:
                print((world.folder / "mnt.log").read_text()[-3000:], flush=True)
        finally:
            world.end()
    suite.end()


if __name__ == "__main__":
    main()
