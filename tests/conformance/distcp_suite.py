"""Stock distcp, with its local job runner, between an Apache HDFS and SteadFS, both ways; checksums are compared.

distcp_suite.py --binary STEADFS
"""

import argparse
import re

from cluster import Cluster
from peer import Peer, Tools
from suite import Suite, has, same

DISTCP = "org.apache.hadoop.tools.DistCp"
MIB = 1 << 20
# One JVM does all; short blocks make files of several.
LOCAL = {"mapreduce.framework.name": "local", "dfs.blocksize": MIB, "dfs.replication": 2,
         # Else options of one command would be those of the first.
         "fs.hdfs.impl.disable.cache": "true"}
COUNTER = re.compile(r"^\s*(Files Copied|Files Skipped|Bytes Copied)=(\d+)", re.MULTILINE)


def pattern(length, seed):
    """Bytes of which no block equals another."""
    return b"".join(b"%03d%08d\n" % (seed, number) for number in range(length // 12 + 1))[:length]


class World:
    def __init__(self, peer, cluster, tools):
        self.peer, self.ours, self.tools = peer.url, cluster.url, tools
        self.cluster = cluster
        self.local = cluster.folder / "local"
        self.local.mkdir()

    def put(self, url, path, data, *options):
        file = self.local / "file"
        file.write_bytes(data)
        self.tools.shell(url, *options, "-put", "-f", file, path)

    def fill(self, url, root):
        """A tree with everything that copies could lose."""
        shell = self.tools.shell
        shell(url, "-mkdir", "-p", f"{root}/folder/deeper", f"{root}/empty-folder", f"{root}/with space")
        for number, (name, length) in enumerate(FILES.items()):
            self.put(url, f"{root}/{name}", pattern(length, number))
        self.put(url, f"{root}/crc32", pattern(MIB + 5, 90), "-D", "dfs.checksum.type=CRC32")
        self.put(url, f"{root}/chunks", pattern(MIB + 5, 91), "-D", "dfs.bytes-per-checksum=1024")
        self.put(url, f"{root}/large-blocks", pattern(3 * MIB, 92), "-D", f"dfs.blocksize={2 * MIB}")
        shell(url, "-setrep", "1", f"{root}/folder/blocks")
        shell(url, "-chown", "ana:staff", f"{root}/folder/blocks", f"{root}/folder/deeper")
        shell(url, "-chmod", "1770", f"{root}/folder")
        shell(url, "-chmod", "600", f"{root}/small")
        shell(url, "-touch", "-t", "20200102:030405", f"{root}/small")

    def copy(self, *arguments):
        """One run of distcp; its counters."""
        code, out, errors = self.tools.run(DISTCP, *arguments)
        if code:
            raise AssertionError(f"distcp {' '.join(arguments)}: exit {code}: {errors[-3000:]}")
        return {name: int(count) for name, count in COUNTER.findall(errors)}

    def tree(self, url, root, form="%A %u %g %F %b %r %o"):
        """What is below a folder: attributes and, of files, checksums, by relative path."""
        lines = self.tools.shell(url, "-ls", "-R", root).splitlines()
        paths = [f"/{line.split(' /', 1)[1]}" for line in lines if " /" in line]
        found = {}
        for path in paths:
            told = self.tools.shell(url, "-stat", form, path).strip() if form else ""
            if not told.endswith("directory") and " directory " not in f" {told} ":
                told += " " + self.tools.shell(url, "-checksum", path).rsplit("\t", 2)[-1].strip()
            found[path.removeprefix(root)] = told
        return found

    def compare(self, source, target, **options):
        one, other = self.tree(*source, **options), self.tree(*target, **options)
        same(other, one, f"{target} as {source}")
        if len(one) < len(FILES):
            raise AssertionError(f"{source} holds {sorted(one)} only")


FILES = {
    "none": 0, "small": 12, "chunk": 512, "with space/ünïcödé-日本": 777, "plus+and&percent%25": 100,
    "folder/blocks": 3 * MIB + 12_345, "folder/block": MIB, "folder/deeper/file": 5_000,
}


def there(world):
    """Everything is preserved: replication, block size, owner, group, mode, checksum type, times."""
    counts = world.copy("-prbugpct", f"{world.peer}/data", f"{world.ours}/data")
    same(counts["Files Copied"], len(FILES) + 3, "files copied")
    world.compare((world.peer, "/data"), (world.ours, "/data"), form="%A %u %g %F %b %r %o %Y")


def again(world):
    """An update of what is the same copies nothing: lengths and checksums agree."""
    counts = world.copy("-update", "-prbugpct", f"{world.peer}/data", f"{world.ours}/data")
    same((counts.get("Files Copied", 0), counts["Files Skipped"]), (0, len(FILES) + 3), "copied and left alone")


def changes(world):
    """An update copies what differs, also where the length is the same, and deletes what is gone."""
    world.put(world.peer, "/data/small", b"hello again\n")
    world.put(world.peer, "/data/new", b"new\n")
    world.tools.shell(world.peer, "-rm", "-r", "-skipTrash", "/data/with space")
    counts = world.copy("-update", "-delete", "-prbugpc", f"{world.peer}/data", f"{world.ours}/data")
    same(counts["Files Copied"], 2, "files copied")
    world.compare((world.peer, "/data"), (world.ours, "/data"))
    same(world.tools.shell(world.ours, "-cat", "/data/small"), "hello again\n")


def grown(world):
    """An update by append sends what was added: the start's checksum is asked for by length."""
    more = world.local / "more"
    more.write_bytes(pattern(MIB, 93))
    world.tools.shell(world.peer, "-appendToFile", more, "/data/folder/blocks")
    counts = world.copy("-update", "-append", f"{world.peer}/data", f"{world.ours}/data")
    same((counts["Files Copied"], counts["Bytes Copied"]), (1, MIB), "files and bytes copied")
    checksums = [world.tools.shell(url, "-D", "dfs.checksum.combine.mode=COMPOSITE_CRC", "-checksum", "/data/folder/blocks")
                 for url in (world.peer, world.ours)]
    same(checksums[1], checksums[0], "checksum of the file that grew")


def back(world):
    """From ours to Apache HDFS; its client compares its own checksums with ours."""
    world.fill(world.ours, "/ours")
    world.copy("-prbugpct", f"{world.ours}/ours", f"{world.peer}/ours")
    world.compare((world.ours, "/ours"), (world.peer, "/ours"), form="%A %u %g %F %b %r %o %Y")


def round_trip(world):
    """What went there and back again is what it was."""
    world.copy("-prbugpct", f"{world.peer}/ours", f"{world.ours}/ours-back")
    world.compare((world.ours, "/ours"), (world.ours, "/ours-back"), form="%A %u %g %F %b %r %o %Y")


def other_block_sizes(world):
    """Without -pb blocks differ; composite checksums compare all the same, plain ones are refused as HDFS's are."""
    world.copy("-D", "dfs.checksum.combine.mode=COMPOSITE_CRC", f"{world.peer}/data/folder", f"{world.ours}/others")
    source = world.tree(world.peer, "/data/folder", form="%F %b")
    target = world.tree(world.ours, "/others", form="%F %b")
    same(sorted(source), sorted(target))
    code, _, errors = world.tools.run(DISTCP, "-D", f"dfs.blocksize={2 * MIB}", f"{world.peer}/data/folder/blocks",
                                      f"{world.ours}/refused")
    same(code != 0, True, "a copy with other blocks and plain checksums is refused")
    has(errors, "Checksum mismatch")
    world.copy("-D", f"dfs.blocksize={2 * MIB}", "-skipcrccheck", "-update", f"{world.peer}/data/folder/blocks",
               f"{world.ours}/unchecked")


def in_pieces(world):
    """A file copied in pieces by several tasks is put together by concat."""
    world.copy("-blocksperchunk", "1", "-prbugpc", f"{world.peer}/data", f"{world.ours}/pieces")
    world.compare((world.peer, "/data"), (world.ours, "/pieces"))
    world.copy("-blocksperchunk", "1", "-prbugpc", f"{world.ours}/ours", f"{world.peer}/pieces")
    world.compare((world.ours, "/ours"), (world.peer, "/pieces"))


def atomic_direct_dynamic(world):
    """The other ways to go about it."""
    world.copy("-atomic", "-pbc", f"{world.peer}/data", f"{world.ours}/atomic")
    world.copy("-direct", "-pbc", f"{world.peer}/data", f"{world.ours}/direct")
    world.copy("-strategy", "dynamic", "-m", "3", "-pbc", f"{world.peer}/data", f"{world.ours}/dynamic")
    world.copy("-overwrite", "-pbc", "-useiterator", f"{world.peer}/data", f"{world.ours}/direct")
    for target in ("/atomic", "/direct", "/dynamic"):
        world.compare((world.peer, "/data"), (world.ours, target), form="%F %b")


def within(world):
    """Ours to ours, as users make copies of a table."""
    world.copy("-prbugpct", f"{world.ours}/ours", f"{world.ours}/copy")
    world.compare((world.ours, "/ours"), (world.ours, "/copy"))


def by_webhdfs(world):
    """From webhdfs:// of ours, and to it, which cannot be told a kind of checksum."""
    web = world.cluster.http.replace("http://", "webhdfs://")
    for name in ("folder", "with space", "plus+and&percent%25"):
        world.copy("-pb", f"{web}/ours/{name}", f"{world.peer}/web/{name}")
        world.copy("-pb", f"{world.peer}/web/{name}", f"{web}/web/{name}")
    same(len(world.tree(world.ours, "/web")), 8, "files and folders")
    for target in ((world.peer, "/web"), (world.ours, "/web")):
        copied = world.tree(*target, form="%F %b")
        source = world.tree(world.ours, "/ours", form="%F %b")
        same({path: source[path] for path in copied}, copied, f"{target}")


def lists_and_attributes(world):
    """Access control lists and extended attributes go along, there and back."""
    shell = world.tools.shell
    shell(world.peer, "-mkdir", "-p", "/marked/inner")
    world.put(world.peer, "/marked/file", b"marked\n")
    shell(world.peer, "-setfacl", "-m", "user:ana:rwx,group:staff:r-x,default:user:ben:r--", "/marked/inner")
    shell(world.peer, "-setfacl", "-m", "user:ana:rw-", "/marked/file")
    shell(world.peer, "-setfattr", "-n", "user.origin", "-v", "there", "/marked/file")
    shell(world.peer, "-setfattr", "-n", "trusted.kind", "-v", "0xdeadbeef", "/marked/inner")
    world.copy("-prbugpcaxt", f"{world.peer}/marked", f"{world.ours}/marked")
    world.copy("-prbugpcaxt", f"{world.ours}/marked", f"{world.peer}/marked-back")
    for command in (("-getfacl", "-R"), ("-getfattr", "-R", "-d", "-e", "hex")):
        told = [shell(url, *command, path).replace(path, "") for url, path in
                ((world.peer, "/marked"), (world.ours, "/marked"), (world.peer, "/marked-back"))]
        same(told[1:], [told[0]] * 2, command[0])


CHECKS = [there, again, changes, grown, back, round_trip, other_block_sizes, in_pieces, atomic_direct_dynamic, within,
          by_webhdfs, lists_and_attributes]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    suite = Suite()
    with Cluster(options.binary) as cluster, Peer(2, settings={"dfs.namenode.acls.enabled": "true"}) as peer, \
            Tools(cluster.folder, LOCAL, level="INFO") as tools:
        world = World(peer, cluster, tools)
        world.fill(world.peer, "/data")
        for check in CHECKS:
            suite.check(f"distcp {check.__name__}", check, world)
    suite.end()


main()
