"""The stock FsShell, command by command, and what each must print.

shell_suite.py --binary STEADFS --jars FOLDER      FOLDER holds hadoop-client-api and hadoop-client-runtime
"""

import argparse
import os
import re
import subprocess
from pathlib import Path

from checksum import md5_of_md5
from cluster import Cluster
from peer import Tools, command
from suite import Suite, has, same

MIB = 1 << 20
LINE = re.compile(r"^(\S{10})\s+(\d+|-) (\S+) (\S+)\s+(\d+) (\d{4}-\d\d-\d\d \d\d:\d\d) (.*)$")


class Shell:
    def __init__(self, tools, cluster):
        self.cluster = cluster
        self.tools = tools
        self.local = cluster.folder / "local"
        self.local.mkdir()

    def run(self, *arguments, user="", stdin=b""):
        """One command; gives exit code, standard output and the lines of standard error that are the shell's."""
        return self.tools.run(Tools.SHELL, "-fs", self.cluster.url, *arguments, user=user, stdin=stdin)

    def alone(self, *arguments, stdin=b""):
        """The same in a process of its own, by its own `main`."""
        line = command(self.tools.conf, Tools.SHELL, "-fs", self.cluster.url, *arguments, lib=self.tools.lib)
        done = subprocess.run(line, capture_output=True, input=stdin, timeout=120)
        return done.returncode, done.stdout, done.stderr.decode()

    def ok(self, *arguments, **options):
        code, out, errors = self.run(*arguments, **options)
        if code:
            raise AssertionError(f"{' '.join(map(str, arguments))}: exit {code}: {errors or out}")
        return out

    def refused(self, text, *arguments, **options):
        code, out, errors = self.run(*arguments, **options)
        if not code:
            raise AssertionError(f"{' '.join(map(str, arguments))}: succeeded, should not")
        has(errors + out, text)

    def file(self, name, data):
        path = self.local / name
        path.write_bytes(data)
        return path

    def ls(self, *arguments):
        """The listing as {path: (mode, replication, owner, group, length)}."""
        rows = [LINE.match(line) for line in self.ok("-ls", *arguments).splitlines()]
        return {row[7]: (row[1], row[2], row[3], row[4], int(row[5])) for row in rows if row}


def pattern(length):
    """Bytes of which no block equals another."""
    return b"".join(b"%011d\n" % number for number in range(length // 12 + 1))[:length]


SMALL = b"hello\nworld\n"
LARGE = pattern(3 * MIB + 12_345)


def mkdir(sh):
    sh.ok("-mkdir", "/a")
    sh.ok("-mkdir", "-p", "/a/b/c")
    sh.ok("-mkdir", "-p", "/a/b/c")
    sh.refused("File exists", "-mkdir", "/a")
    sh.refused("No such file or directory", "-mkdir", "/none/x")


def put(sh):
    sh.ok("-put", sh.file("small", SMALL), "/a/small")
    sh.refused("File exists", "-put", sh.file("small", SMALL), "/a/small")
    sh.ok("-put", "-f", sh.file("small", SMALL), "/a/small")
    sh.ok("-put", "-", "/a/piped", stdin=SMALL)
    sh.ok("-D", f"dfs.blocksize={MIB}", "-put", sh.file("large", LARGE), "/a/large")
    sh.refused("No such file or directory", "-put", sh.local / "none", "/a/none")


def ls(sh):
    listed = sh.ls("/a")
    same(sorted(listed), ["/a/b", "/a/large", "/a/piped", "/a/small"])
    mode, replication, _, group, length = listed["/a/small"]
    same((mode, replication, group, length), ("-rw-r--r--", "3", "supergroup", len(SMALL)))
    same(listed["/a/b"][:2], ("drwxr-xr-x", "-"))
    same(sorted(sh.ls("-R", "/a")), ["/a/b", "/a/b/c", "/a/large", "/a/piped", "/a/small"])
    has(sh.ok("-ls", "/a"), "Found 4 items")
    same(sorted(sh.ls("-d", "/a")), ["/a"])
    sh.refused("ls: `/none': No such file or directory", "-ls", "/none")


def cat(sh):
    same(sh.ok("-cat", "/a/small", "/a/piped").encode(), SMALL * 2)
    sh.refused("cat: `/none': No such file or directory", "-cat", "/none")
    sh.refused("Is a directory", "-cat", "/a")


def get(sh):
    for name, data in (("small", SMALL), ("large", LARGE)):
        target = sh.local / f"got-{name}"
        sh.ok("-get", f"/a/{name}", target)
        same(target.read_bytes() == data, True, f"{name} comes back byte for byte")
    sh.ok("-get", "/a", sh.local / "tree")
    same((sh.local / "tree" / "large").read_bytes() == LARGE, True, "a tree comes back")


def tail(sh):
    same(sh.ok("-tail", "/a/large").encode(), LARGE[-1024:])
    same(sh.ok("-head", "/a/large").encode(), LARGE[:1024])


def copy_and_move(sh):
    sh.ok("-cp", "/a/large", "/a/copy")
    same(sh.ls("/a/copy")["/a/copy"][4], len(LARGE))
    sh.refused("File exists", "-cp", "/a/small", "/a/copy")
    sh.ok("-mv", "/a/copy", "/a/b/moved")
    same(sorted(sh.ls("-R", "/a/b")), ["/a/b/c", "/a/b/moved"])
    sh.ok("-mv", "/a/b/moved", "/a/b/c")
    same(sorted(sh.ls("/a/b/c")), ["/a/b/c/moved"])
    sh.refused("No such file or directory", "-mv", "/none", "/a/x")
    sh.refused("File exists", "-mv", "/a/small", "/a/piped")


def du_and_count(sh):
    total = 2 * len(SMALL) + 2 * len(LARGE)
    same(sh.ok("-count", "/a").split(), ["3", "4", str(total), "/a"])
    same(sh.ok("-du", "-s", "/a").split(), [str(total), str(3 * total), "/a"])
    rows = {line.split()[2]: line.split()[:2] for line in sh.ok("-du", "/a").splitlines()}
    same(rows["/a/small"], [str(len(SMALL)), str(3 * len(SMALL))])
    sh.refused("No such file or directory", "-du", "/none")


def stat(sh):
    same(sh.ok("-stat", "%n %b %r %o %g %F %a", "/a/large").strip(),
         f"large {len(LARGE)} 3 {MIB} supergroup regular file 644")
    same(sh.ok("-stat", "%F %b %a", "/a").strip(), "directory 0 755")
    sh.refused("stat: `/none': No such file or directory", "-stat", "/none")


def test(sh):
    sh.ok("-touchz", "/a/empty")
    yes = (("-e", "/a"), ("-d", "/a"), ("-f", "/a/small"), ("-z", "/a/empty"), ("-s", "/a/small"), ("-r", "/a"))
    no = (("-e", "/none"), ("-d", "/a/small"), ("-f", "/a"), ("-z", "/a/small"))
    for flag, path, code in [(*pair, 0) for pair in yes] + [(*pair, 1) for pair in no]:
        same(sh.run("-test", flag, path)[0], code, f"-test {flag} {path}")


def touchz(sh):
    sh.ok("-touchz", "/a/zero")
    same(sh.ls("/a/zero")["/a/zero"][4], 0)
    sh.refused("Not a zero-length file", "-touchz", "/a/small")


def chmod(sh):
    sh.ok("-chmod", "640", "/a/small")
    same(sh.ls("/a/small")["/a/small"][0], "-rw-r-----")
    sh.ok("-chmod", "-R", "g+w,o-rx", "/a/b")
    same(sh.ls("-d", "/a/b")["/a/b"][0], "drwxrwx---")
    same(sh.ls("/a/b/c")["/a/b/c/moved"][0], "-rw-rw----")
    sh.ok("-chmod", "1777", "/a/b/c")
    same(sh.ls("-d", "/a/b/c")["/a/b/c"][0], "drwxrwxrwt")
    sh.refused("No such file or directory", "-chmod", "644", "/none")


def chown(sh):
    sh.ok("-chown", "ana:staff", "/a/small")
    same(sh.ls("/a/small")["/a/small"][2:4], ("ana", "staff"))
    sh.ok("-chown", "-R", "ben", "/a/b")
    same(sh.ls("/a/b/c")["/a/b/c/moved"][2:4], ("ben", "supergroup"))
    sh.refused("Permission denied", "-chown", "eve", "/a/small", user="eve")


def permission(sh):
    sh.ok("-cat", "/a/small", user="ana")
    sh.refused("Permission denied: user=eve, access=READ", "-cat", "/a/small", user="eve")
    sh.refused("Permission denied: user=eve, access=WRITE", "-mkdir", "/a/eve", user="eve")
    sh.refused("Permission denied", "-chmod", "777", "/a/large", user="eve")
    sh.ok("-mkdir", "/drop")
    sh.ok("-chmod", "1777", "/drop")
    sh.ok("-put", sh.file("small", SMALL), "/drop/ana", user="ana")
    sh.refused("Permission denied by sticky bit", "-rm", "-skipTrash", "/drop/ana", user="eve")
    sh.ok("-rm", "-skipTrash", "/drop/ana", user="ana")


def setrep(sh):
    has(sh.ok("-setrep", "-w", "2", "/a/large"), "Replication 2 set: /a/large")
    same(sh.ls("/a/large")["/a/large"][1], "2")
    sh.ok("-setrep", "-R", "1", "/a/b")
    same(sh.ls("/a/b/c")["/a/b/c/moved"][1], "1")
    has(sh.ok("-setrep", "-w", "3", "/a/large"), "Replication 3 set: /a/large")


def append(sh):
    sh.ok("-appendToFile", sh.file("small", SMALL), "/a/piped")
    same(sh.ok("-cat", "/a/piped").encode(), SMALL * 2)
    sh.ok("-appendToFile", "-", "/a/piped", stdin=b"end\n")
    same(sh.ok("-cat", "/a/piped").encode(), SMALL * 2 + b"end\n")
    more = pattern(MIB)
    sh.ok("-appendToFile", sh.file("more", more), "/a/large")
    target = sh.local / "appended"
    sh.ok("-get", "/a/large", target)
    same(target.read_bytes() == LARGE + more, True, "an append across a block's end comes back")
    sh.ok("-appendToFile", sh.file("small", SMALL), "/a/born")
    same(sh.ok("-cat", "/a/born").encode(), SMALL)


def checksum(sh):
    sh.ok("-D", f"dfs.blocksize={MIB}", "-put", sh.file("sum", LARGE[:2 * MIB + 777]), "/a/sum")
    for path, data in (("/a/piped", SMALL * 2 + b"end\n"), ("/a/sum", LARGE[:2 * MIB + 777])):
        name, kind, value = sh.ok("-checksum", path).split()
        block = MIB if path == "/a/sum" else 128 * MIB
        blocks = -(-len(data) // block)
        chunks = block // 512 if blocks > 1 else 0
        same((name, kind, value), (path, f"MD5-of-{chunks}MD5-of-512CRC32C", md5_of_md5(data, block)))
        has(sh.cluster.run("fs", "checksum", path).stdout, value)


def df(sh):
    header, row = sh.ok("-df", "/").splitlines()[:2]
    same(header.split(), ["Filesystem", "Size", "Used", "Available", "Use%"])
    name, size, used, available = row.split()[:4]
    same(name, sh.cluster.url)
    if not (int(size) > 0 and int(used) > 0 and int(available) > 0):
        raise AssertionError(row)


def rm(sh):
    sh.refused("Is a directory", "-rm", "/a/b")
    has(sh.ok("-rm", "-skipTrash", "/a/zero"), "Deleted /a/zero")
    sh.refused("rm: `/a/zero': No such file or directory", "-rm", "/a/zero")
    sh.ok("-rm", "-f", "/a/zero")
    sh.refused("Directory is not empty", "-rmdir", "/a/b")
    sh.ok("-D", "fs.trash.interval=60", "-rm", "/a/born")
    trashed = [path for path in sh.ls("-R", "/user") if path.endswith("/.Trash/Current/a/born")]
    same(len(trashed), 1, "a file goes to the trash")
    has(sh.ok("-rm", "-r", "-skipTrash", "/a/b"), "Deleted /a/b")
    same(sh.run("-test", "-e", "/a/b")[0], 1)


def names(sh):
    good = ("with space", "ünïcödé-日本", "plus+and&", "x" * 255)
    for name in good:
        sh.ok("-touchz", f"/drop/{name}")
    listed = set(sh.ls("/drop"))
    for name in good:
        if f"/drop/{name}" not in listed:
            raise AssertionError(f"{name!r} is not in {sorted(listed)}")
    sh.refused("limit=255 length=256", "-touchz", "/drop/" + "y" * 256)


def as_people_call_it(sh):
    same(sh.alone("-put", "-", "/alone", stdin=LARGE)[0], 0, "-put")
    code, out, _ = sh.alone("-cat", "/alone")
    same((code, out == LARGE), (0, True), "-cat")
    code, _, errors = sh.alone("-cat", "/none")
    same(code, 1, "-cat of nothing")
    has(errors, "cat: `/none': No such file or directory")


CHECKS = [as_people_call_it, mkdir, put, ls, cat, get, tail, copy_and_move, du_and_count, stat, test, touchz, chmod, chown,
          permission, setrep, append, checksum, df, rm, names]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--jars", required=True)
    options = parser.parse_args()
    jars = Path(options.jars)
    version = next(jars.glob("hadoop-client-api-*.jar")).stem.removeprefix("hadoop-client-api-")
    suite = Suite()
    os.environ.pop("HADOOP_USER_NAME", None)
    with Cluster(options.binary) as cluster, Tools(cluster.folder, level="ERROR", lib=jars) as tools:
        shell = Shell(tools, cluster)
        for check in CHECKS:
            suite.check(f"FsShell {version} {check.__name__}", check, shell)
    suite.end()


main()
