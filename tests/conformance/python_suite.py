"""Python programs on SteadFS: hdfs-native and its fsspec, through it PyArrow, Polars, DuckDB and pandas; WebHDFS by fsspec
and by HdfsCLI.

python_suite.py --binary STEADFS      run with the python of `scripts/setup pyclients`
"""

import argparse
import getpass
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlparse

from cluster import Cluster
from suite import Suite, has, same

MIB = 1 << 20
ROWS = 200_000


def pattern(length, seed=0):
    """Bytes of which no block equals another."""
    return b"".join(b"%03d%08d\n" % (seed, number) for number in range(length // 12 + 1))[:length]


LARGE = pattern(5 * MIB + 321)


class World:
    def __init__(self, cluster):
        import fsspec
        import hdfs
        from hdfs_native import Client
        self.cluster, self.url = cluster, cluster.url.rstrip("/")
        address = urlparse(cluster.url)
        self.client = Client(self.url)
        self.fs = fsspec.filesystem("hdfs", host=address.hostname, port=address.port)
        web = urlparse(cluster.http)
        self.web = fsspec.filesystem("webhdfs", host=web.hostname, port=web.port, user=getpass.getuser())
        self.webcli = hdfs.InsecureClient(cluster.http, user=getpass.getuser())

    def refused(self, kind, function, *arguments, **options):
        try:
            function(*arguments, **options)
        except kind as error:
            return str(error)
        raise AssertionError(f"{function.__name__}{arguments} did not raise {kind}")


def client(world):
    """hdfs-native's own calls."""
    from hdfs_native import WriteOptions
    native = world.client
    native.mkdirs("/native/inner", permission=0o750, create_parent=True)
    with native.create("/native/file", WriteOptions(block_size=MIB, replication=2, permission=0o640)) as out:
        for start in range(0, len(LARGE), 100_003):
            out.write(LARGE[start:start + 100_003])
    status = native.get_file_info("/native/file")
    same((status.length, status.replication, status.blocksize, status.permission, status.isdir),
         (len(LARGE), 2, MIB, 0o640, False))
    reader = native.read("/native/file")
    same(reader.read_range(MIB - 5, 10), LARGE[MIB - 5:MIB + 5])
    reader.seek(4 * MIB)
    same(reader.read(), LARGE[4 * MIB:])
    same(b"".join(reader.read_range_stream(0, len(LARGE))), LARGE)
    with native.append("/native/file") as out:
        out.write(b"more")
        out.hsync()
    same(native.get_file_info("/native/file").length, len(LARGE) + 4)
    world.refused(FileExistsError, native.create, "/native/file", WriteOptions(overwrite=False))
    native.rename("/native/file", "/native/inner/file")
    native.set_times("/native/inner/file", 1_234_567_890_123, 1_234_567_890_456)
    native.set_owner("/native/inner/file", "ana", "staff")
    native.set_permission("/native/inner/file", 0o604)
    same(native.set_replication("/native/inner/file", 1), True)
    status = native.get_file_info("/native/inner/file")
    same((status.owner, status.group, status.permission, status.replication, status.modification_time),
         ("ana", "staff", 0o604, 1, 1_234_567_890_123))
    same(sorted(status.path for status in native.list_status("/native", True)), ["/native/inner", "/native/inner/file"])
    same([status.path for status in native.glob_status("/nat*/in?er/{file,none}")], ["/native/inner/file"])
    summary = native.get_content_summary("/native")
    same((summary.file_count, summary.directory_count, summary.length), (1, 2, len(LARGE) + 4))
    same(native.recover_lease("/native/inner/file"), True)
    world.refused(FileNotFoundError, native.get_file_info, "/native/file")
    same(native.delete("/native", True), True)
    same(native.delete("/native", True), False)


def many_at_once(world):
    """Threads share a client."""
    failures = []

    def work(number):
        try:
            data = pattern(300_000, number)
            with world.client.create(f"/threads/{number}") as out:
                out.write(data)
            same(world.client.read(f"/threads/{number}").read(), data)
        except Exception as error:
            failures.append(error)

    world.client.mkdirs("/threads", 0o755, True)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(failures, [])
    same(len(list(world.client.list_status("/threads"))), 16)


def acl(world):
    """Access control lists by hdfs-native."""
    from hdfs_native import AclEntry
    native = world.client
    native.create("/listed").close()
    native.modify_acl_entries("/listed", [AclEntry("user", "access", "rwx", "ana"), AclEntry("group", "access", "r-x", "staff")])
    status = native.get_acl_status("/listed")
    same(sorted((entry.type, entry.name, entry.permissions) for entry in status.entries if entry.name),
         [("group", "staff", "r-x"), ("user", "ana", "rwx")])
    native.remove_acl("/listed")
    same([entry for entry in native.get_acl_status("/listed").entries if entry.name], [])


def command_line(world):
    """`hdfsn`, the package's own command."""
    program = Path(sys.executable).with_name("hdfsn")

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
        same((done.returncode, done.stderr), (0, ""), " ".join(map(str, arguments)))
        return done.stdout

    local = world.cluster.folder / "hdfsn"
    local.write_bytes(LARGE)
    run("mkdir", "-p", f"{world.url}/cli/deep")
    run("put", local, f"{world.url}/cli/file")
    run("mv", f"{world.url}/cli/file", f"{world.url}/cli/deep/file")
    has(run("ls", f"{world.url}/cli/deep"), "/cli/deep/file")
    run("chmod", "600", f"{world.url}/cli/deep/file")
    back = world.cluster.folder / "hdfsn-back"
    run("get", f"{world.url}/cli/deep/file", back)
    same(back.read_bytes() == LARGE, True)
    has(run("du", "-s", f"{world.url}/cli"), str(len(LARGE)))
    run("rm", "-r", "--skip-trash", f"{world.url}/cli")


def filesystem(world, fs, root):
    """What every fsspec file system must do."""
    fs.makedirs(f"{root}/a/b", exist_ok=True)
    with fs.open(f"{root}/a/file", "wb") as out:
        out.write(LARGE)
    same((fs.exists(f"{root}/a/file"), fs.exists(f"{root}/none"), fs.isdir(f"{root}/a"), fs.isfile(f"{root}/a/file")),
         (True, False, True, True))
    same(fs.size(f"{root}/a/file"), len(LARGE))
    with fs.open(f"{root}/a/file", "rb") as file:
        file.seek(3 * MIB + 1)
        same(file.read(100), LARGE[3 * MIB + 1:][:100])
    same(fs.cat_file(f"{root}/a/file", start=10, end=20), LARGE[10:20])
    same(fs.cat(f"{root}/a/file") == LARGE, True)
    # fsspec's WebHDFS cannot append: it forgets where to.
    with world.fs.open(f"{root}/a/file", "ab") as out:
        out.write(b"end")
    same(fs.tail(f"{root}/a/file", 5), (LARGE + b"end")[-5:])
    fs.pipe(f"{root}/a/b/small", b"hello\n")
    same([line for line in io.TextIOWrapper(fs.open(f"{root}/a/b/small", "rb"))], ["hello\n"])
    same(sorted(fs.find(root)), [f"{root}/a/b/small", f"{root}/a/file"])
    same(sorted(fs.glob(f"{root}/*/*")), [f"{root}/a/b", f"{root}/a/file"])
    same([(top, sorted(folders), sorted(files)) for top, folders, files in fs.walk(root)],
         [(root, ["a"], []), (f"{root}/a", ["b"], ["file"]), (f"{root}/a/b", [], ["small"])])
    fs.mv(f"{root}/a/b/small", f"{root}/a/b/moved")
    local = world.cluster.folder / "fsspec"
    local.write_bytes(LARGE)
    fs.put(str(local), f"{root}/put")
    fs.get(f"{root}/put", f"{local}-back")
    same(Path(f"{local}-back").read_bytes() == LARGE, True)
    same((fs.du(root) if root == "/fsspec" else fs.content_summary(root)["length"]), 2 * len(LARGE) + 3 + 6)
    fs.touch(f"{root}/touched")
    same(fs.info(f"{root}/touched")["size"], 0)
    world.refused(FileNotFoundError, fs.info, f"{root}/none")
    world.refused(FileNotFoundError, fs.ls, f"{root}/none")
    fs.rm(root, recursive=True)
    same(fs.exists(root), False)


def fsspec_native(world):
    """hdfs-native behind fsspec."""
    filesystem(world, world.fs, "/fsspec")
    import fsspec
    with fsspec.open(f"{world.url}/by-url.txt", "wt") as out:
        out.write("by url\n")
    with fsspec.open(f"{world.url}/by-url.txt", "rt") as file:
        same(file.read(), "by url\n")


def fsspec_webhdfs(world):
    """fsspec's own WebHDFS."""
    filesystem(world, world.web, "/webspec")
    fs = world.web
    with fs.open("/checked", "wb") as out:
        out.write(LARGE)
    same(fs.ukey("/checked")["algorithm"], "MD5-of-0MD5-of-512CRC32C")
    same(fs.home_directory(), f"/user/{getpass.getuser()}")
    fs.chmod("/checked", "604")
    fs.chown("/checked", "ana", "staff")
    fs.set_replication("/checked", 2)
    status = fs.info("/checked")
    same((status["permission"], status["owner"], status["group"], status["replication"]), ("604", "ana", "staff", 2))


def hdfscli(world):
    """The package `hdfs`, which speaks WebHDFS."""
    web = world.webcli
    web.makedirs("/webcli/inner", permission=750)
    web.write("/webcli/file", data=io.BytesIO(LARGE), permission=640, blocksize=MIB, replication=2)
    with web.read("/webcli/file") as reader:
        same(reader.read() == LARGE, True)
    with web.read("/webcli/file", offset=MIB - 3, length=6) as reader:
        same(reader.read(), LARGE[MIB - 3:MIB + 3])
    web.write("/webcli/file", data=b"more", append=True)
    with web.write("/webcli/lines", encoding="utf-8", overwrite=True) as writer:
        writer.write("ünïcödé\n")
    with web.read("/webcli/lines", encoding="utf-8", delimiter="\n") as reader:
        same(list(reader), ["ünïcödé", ""])
    status = web.status("/webcli/file")
    same((status["length"], status["blockSize"], status["permission"], status["replication"], status["type"]),
         (len(LARGE) + 4, MIB, "640", 2, "FILE"))
    same(web.content("/webcli")["fileCount"], 2)
    same(sorted(web.list("/webcli")), ["file", "inner", "lines"])
    same(web.checksum("/webcli/file")["algorithm"].startswith("MD5-of-"), True)
    web.set_permission("/webcli/file", permission="600")
    web.set_owner("/webcli/file", owner="ana", group="staff")
    web.set_times("/webcli/file", access_time=1_000_000_000_000, modification_time=1_100_000_000_000)
    web.set_replication("/webcli/file", replication=1)
    status = web.status("/webcli/file")
    same((status["permission"], status["owner"], status["replication"], status["modificationTime"]),
         ("600", "ana", 1, 1_100_000_000_000))
    web.rename("/webcli/file", "/webcli/inner/moved")
    same([path for path, _, _ in web.walk("/webcli")], ["/webcli", "/webcli/inner"])
    folder = world.cluster.folder / "webcli"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        (folder / "deep" / f"f{number}").write_bytes(pattern(50_000, number))
    web.upload("/webcli/up", str(folder), n_threads=3)
    same(len(web.list("/webcli/up/deep")), 5)
    web.download("/webcli/up", str(world.cluster.folder / "webcli-back"), n_threads=3)
    same((world.cluster.folder / "webcli-back/deep/f3").read_bytes(), pattern(50_000, 3))
    from hdfs.util import HdfsError
    has(world.refused(HdfsError, web.status, "/webcli/none"), "does not exist")
    same(web.status("/webcli/none", strict=False), None)
    has(world.refused(HdfsError, web.write, "/webcli/lines", data=b"x"), "already exists")
    same((web.delete("/webcli", recursive=True), web.delete("/webcli")), (True, False))


def webcli_acl(world):
    """Access control lists by HdfsCLI."""
    web = world.webcli
    web.write("/weblisted", data=b"x")
    web.set_acl("/weblisted", "user::rwx,user:ana:r--,group::r-x,other::---", clear=True)
    has(web.acl_status("/weblisted")["entries"], "user:ana:r--")
    web.remove_acl("/weblisted")
    same(web.acl_status("/weblisted")["entries"], [])


def table():
    import pyarrow as pa
    return pa.table({"id": range(ROWS), "day": [number % 7 for number in range(ROWS)],
                     "name": [f"name-{number}" for number in range(ROWS)]})


SUM = sum(range(ROWS))


def arrow(world):
    """PyArrow through fsspec: Parquet with row groups, a partitioned data set with filters, Feather."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.feather as feather
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq
    fs = pafs.PyFileSystem(pafs.FSSpecHandler(world.fs))
    data = table()
    world.fs.makedirs("/arrow")
    pq.write_table(data, "/arrow/table.parquet", filesystem=fs, row_group_size=20_000)
    same(pc.sum(pq.read_table("/arrow/table.parquet", filesystem=fs, columns=["id"])["id"]).as_py(), SUM)
    same(pq.ParquetFile("/arrow/table.parquet", filesystem=fs).num_row_groups, 10)
    ds.write_dataset(data, "/arrow/set", filesystem=fs, format="parquet", partitioning=["day"], partitioning_flavor="hive")
    back = ds.dataset("/arrow/set", filesystem=fs, format="parquet", partitioning="hive")
    same((back.count_rows(), len(back.files)), (ROWS, 7))
    same(pc.sum(back.to_table(filter=ds.field("day") == 3)["id"]).as_py(), sum(range(3, ROWS, 7)))
    with world.fs.open("/arrow/feather", "wb") as out:
        feather.write_feather(data, out)
    with world.fs.open("/arrow/feather", "rb") as file:
        same(feather.read_table(file).num_rows, ROWS)


def polars(world):
    """Polars reads and writes Parquet and CSV."""
    import polars as pl
    world.fs.makedirs("/polars")
    frame = pl.from_arrow(table())
    with world.fs.open("/polars/table.parquet", "wb") as out:
        frame.write_parquet(out)
    with world.fs.open("/polars/table.parquet", "rb") as file:
        same(pl.read_parquet(file, columns=["id"])["id"].sum(), SUM)
    with world.fs.open("/polars/table.csv", "wb") as out:
        frame.write_csv(out)
    with world.fs.open("/polars/table.csv", "rb") as file:
        same(pl.read_csv(file)["id"].sum(), SUM)
    import pyarrow.dataset as ds
    import pyarrow.fs as pafs
    source = ds.dataset("/polars/table.parquet", filesystem=pafs.PyFileSystem(pafs.FSSpecHandler(world.fs)))
    same(pl.scan_pyarrow_dataset(source).filter(pl.col("day") == 3).select(pl.col("id").sum()).collect().item(),
         sum(range(3, ROWS, 7)))


def duck(world):
    """DuckDB reads Parquet and CSV by hdfs:// addresses, with globs, and writes them."""
    import duckdb
    base = duckdb.connect()
    base.register_filesystem(world.fs)
    world.fs.makedirs("/duck")
    url = f"{world.url}/duck"
    base.execute(f"copy (select range id, range % 7 as day from range({ROWS})) to '{url}/one.parquet' (format parquet)")
    base.execute(f"copy (select range id, range % 7 as day from range({ROWS})) to '{url}/two.parquet' (format parquet)")
    same(base.execute(f"select sum(id) from read_parquet('{url}/one.parquet')").fetchone()[0], SUM)
    same(base.execute(f"select count(*), count(distinct filename) from read_parquet('{url}/*.parquet', filename=true)")
         .fetchone(), (2 * ROWS, 2))
    base.execute(f"copy (select range id from range(1000)) to '{url}/small.csv' (header)")
    same(base.execute(f"select sum(id) from read_csv('{url}/small.csv')").fetchone()[0], sum(range(1000)))


def pandas(world):
    """pandas by address."""
    import pandas as pd
    world.fs.makedirs("/pandas")
    frame = table().to_pandas()
    options = {"filesystem": world.fs}
    frame.to_parquet("/pandas/table.parquet", **options)
    same(int(pd.read_parquet("/pandas/table.parquet", **options)["id"].sum()), SUM)
    frame.to_csv(f"{world.url}/pandas/table.csv", index=False)
    same(int(pd.read_csv(f"{world.url}/pandas/table.csv")["id"].sum()), SUM)


CHECKS = [client, many_at_once, acl, command_line, fsspec_native, fsspec_webhdfs, hdfscli, webcli_acl, arrow, polars, duck,
          pandas]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    os.environ.pop("HADOOP_USER_NAME", None)
    suite = Suite()
    with Cluster(options.binary) as cluster:
        world = World(cluster)
        for check in CHECKS:
            suite.check(f"Python {check.__name__}", check, world)
    suite.end()


main()
