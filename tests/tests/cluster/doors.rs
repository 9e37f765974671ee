//! One list of operations through every door. Hadoop RPC (by an independent client), WebHDFS and gRPC must answer alike.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use bytes::Bytes;
use hdfs_native::{ClientBuilder, HdfsError, WriteOptions};
use serde_json::Value;
use steadfs_client::{Client, ClientOptions, FsResult, Millis};
use steadfs_proto::hadoop::{
    CheckAccessRequestProto, CheckAccessResponseProto, ConcatRequestProto, ConcatResponseProto,
    TruncateRequestProto, TruncateResponseProto,
};
use steadfs_tests::{BLOCK, TestCluster, content};

use crate::raw_rpc;
use crate::webhdfs::Web;

/// What is done. Paths are below a folder that each door has for itself.
#[derive(Clone, Copy, Debug)]
enum Op {
    Mkdirs(&'static str, u16),
    /// A new file with so many bytes.
    Create(&'static str, usize),
    /// The same in place of a file.
    Overwrite(&'static str, usize),
    /// A new file in a folder that must be there.
    CreateHere(&'static str),
    Append(&'static str, usize),
    /// How many bytes there are, and whether they are those written.
    Read(&'static str),
    Stat(&'static str),
    List(&'static str),
    Summary(&'static str),
    Rename(&'static str, &'static str),
    RenameOver(&'static str, &'static str),
    Delete(&'static str),
    DeleteAll(&'static str),
    Chmod(&'static str, u16),
    Chown(&'static str, &'static str),
    Times(&'static str, u64),
    Replicas(&'static str, u16),
    /// Cut to so many bytes.
    Truncate(&'static str, u64),
    Concat(&'static str, &'static str),
    /// May it be read, written and passed?
    Access(&'static str, u8),
    Checksum(&'static str),
}

use Op::*;

const ME: &str = "";
const EVE: &str = "eve";
const MISSING: &str = "FileNotFoundException";
const EXISTS: &str = "FileAlreadyExistsException";
const DENIED: &str = "AccessControlException";
const NO_PARENT: &str = "ParentNotDirectoryException";

/// Who does what, and what must come of it: `done`, an answer, or the class of an exception.
const SCENARIO: &[(&str, Op, &str)] = &[
    (ME, Mkdirs("d/e/f", 0o755), "done"),
    (ME, Mkdirs("d/e/f", 0o700), "done"),
    (ME, Stat("d/e/f"), "folder 755"),
    (ME, Create("d/one", 1_000), "done"),
    (ME, Create("d/one", 1), EXISTS),
    (ME, Create("d", 1), EXISTS),
    (ME, Overwrite("d", 1), EXISTS),
    (ME, Create("d/one/x", 1), NO_PARENT),
    (ME, Create("new/parent/file", 0), "done"),
    (ME, CreateHere("none/file"), MISSING),
    (ME, CreateHere("d/here"), "done"),
    (ME, Mkdirs("d/one", 0o755), EXISTS),
    (ME, Mkdirs("d/one/x/y", 0o755), NO_PARENT),
    (ME, Read("d/one"), "1000 as written"),
    (ME, Read("none"), MISSING),
    (ME, Stat("d/one"), "file 1000 644 x1"),
    (ME, Stat("none"), MISSING),
    (ME, Stat("none/below"), MISSING),
    (ME, List("d"), "e here one"),
    (ME, List("d/one"), "one"),
    (ME, List("none"), MISSING),
    (ME, List("d/e/f"), ""),
    (ME, Overwrite("d/one", 3_000), "done"),
    (ME, Read("d/one"), "3000 as written"),
    (ME, Append("d/one", 500), "done"),
    (ME, Stat("d/one"), "file 3500 644 x1"),
    (ME, Append("none", 5), MISSING),
    (ME, Append("d", 5), EXISTS),
    (ME, Create("d/big", 2 * BLOCK as usize + 7), "done"),
    (ME, Read("d/big"), "2097159 as written"),
    (ME, Summary("d"), "3 files, 3 folders, 2100659 bytes"),
    (ME, Summary("none"), MISSING),
    (ME, Checksum("d/big"), "MD5-of-2048MD5-of-512CRC32C"),
    (ME, Checksum("none"), MISSING),
    (ME, Truncate("d/big", BLOCK), "yes"),
    (ME, Truncate("d/big", BLOCK), "yes"),
    (ME, Truncate("none", 1), MISSING),
    (ME, Truncate("d", 1), MISSING),
    (ME, Stat("d/big"), "file 1048576 644 x1"),
    (ME, Rename("d/one", "d/two"), "done"),
    (ME, Rename("d/one", "d/three"), MISSING),
    (ME, Rename("d/two", "d/big"), EXISTS),
    (ME, Rename("d/two", "none/x"), MISSING),
    (ME, Rename("d", "d/e/inside"), "IOException"),
    (ME, Rename("d/two", "d/two"), EXISTS),
    (ME, RenameOver("d/two", "d/here"), "done"),
    (ME, RenameOver("d/here", "d/e"), "IOException"),
    (ME, RenameOver("d/e", "new"), "IOException"),
    (ME, List("d"), "big e here"),
    (ME, Create("c/a", 1 << 20), "done"),
    (ME, Create("c/b", 100), "done"),
    (ME, Concat("c/a", "c/b"), "done"),
    (ME, Stat("c/a"), "file 1048676 644 x1"),
    (ME, Concat("c/a", "c/b"), MISSING),
    (ME, Chmod("d/here", 0o600), "done"),
    (ME, Stat("d/here"), "file 3500 600 x1"),
    (ME, Chmod("none", 0o600), MISSING),
    (ME, Chmod("d/e", 0o1777), "done"),
    (ME, Stat("d/e"), "folder 1777"),
    (ME, Times("d/here", 1_600_000_000_000), "done"),
    (ME, Times("none", 1), MISSING),
    (ME, Replicas("d/here", 2), "yes"),
    (ME, Stat("d/here"), "file 3500 600 x2"),
    (ME, Replicas("d", 2), "no"),
    (ME, Replicas("none", 2), "no"),
    (ME, Replicas("d/here", 10_000), "IOException"),
    (EVE, Read("d/here"), DENIED),
    (EVE, Access("d/here", 4), DENIED),
    (EVE, Access("d/big", 4), "done"),
    (EVE, Access("none", 4), MISSING),
    (EVE, Create("d/eves", 1), DENIED),
    (EVE, Overwrite("d/here", 1), DENIED),
    (EVE, Append("d/here", 1), DENIED),
    (EVE, Mkdirs("d/eves", 0o755), DENIED),
    (EVE, Delete("d/here"), DENIED),
    (EVE, Rename("d/here", "d/eves"), DENIED),
    (EVE, Chmod("d/here", 0o777), DENIED),
    (EVE, Chown("d/here", "eve"), DENIED),
    (EVE, Times("d/here", 1), DENIED),
    (EVE, Stat("d/big/x"), DENIED),
    (EVE, Mkdirs("d/e/eves", 0o700), "done"),
    (EVE, Create("d/e/eves/file", 10), "done"),
    (EVE, Delete("d/e/eves/file"), "yes"),
    (ME, Create("d/e/mine", 0), "done"),
    (EVE, Delete("d/e/mine"), DENIED),
    (ME, Chown("d/here", "eve"), "done"),
    (EVE, Read("d/here"), "3500"),
    (ME, Chown("none", "eve"), MISSING),
    (ME, Delete("d"), "PathIsNotEmptyDirectoryException"),
    (ME, Delete("none"), "no"),
    (ME, Delete("d/e/mine"), "yes"),
    (ME, DeleteAll("d"), "yes"),
    (ME, Stat("d"), MISSING),
];

/// A way in.
enum Door {
    Hadoop(String),
    Web(Web),
    Grpc(String),
}

impl Door {
    const fn name(&self) -> &'static str {
        match self {
            Self::Hadoop(_) => "hadoop",
            Self::Web(_) => "web",
            Self::Grpc(_) => "grpc",
        }
    }

    /// What came of `op`; none if the client of this door cannot do it.
    async fn run(&self, user: &str, op: Op) -> anyhow::Result<Option<String>> {
        let me = steadfs_client::current_user();
        let user = if user == ME { me.as_str() } else { user };
        Ok(match self {
            Self::Hadoop(url) if matches!(op, Truncate(..) | Concat(..) | Access(..)) => {
                Some(by_raw_calls(url, user, op).await?.unwrap_or_else(|class| simple(&class)))
            }
            Self::Hadoop(url) => {
                let client = ClientBuilder::new().with_url(url).with_user(user).build()?;
                match by_hadoop(&client, op).await {
                    Ok(told) => told,
                    Err(error) => Some(class_of_hadoop(error)?),
                }
            }
            Self::Web(web) => Some(by_web(web, user, op).await?),
            Self::Grpc(url) => {
                let client = Client::connect_with(url, ClientOptions::for_user(user)).await?;
                let told = by_grpc(&client, op).await;
                Some(told.unwrap_or_else(|error| simple(error.kind().hadoop_class())))
            }
        })
    }
}

/// The path of this door's own folder.
fn at(door: &str, path: &str) -> String {
    format!("/{door}/{path}")
}

fn simple(class: &str) -> String {
    class.rsplit(['.', '$']).next().unwrap_or(class).to_owned()
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn done() -> String {
    "done".to_owned()
}

fn bytes_of(path: &str, length: usize) -> Bytes {
    content(path, length)
}

/// Only bytes that one writer wrote at once are compared.
fn told_of_bytes(path: &str, bytes: &Bytes) -> String {
    let mut told = bytes.len().to_string();
    if *bytes == bytes_of(path, bytes.len()) {
        told.push_str(" as written");
    }
    told
}

fn status(folder: bool, length: u64, mode: u16, replication: u64) -> String {
    if folder { format!("folder {mode:o}") } else { format!("file {length} {mode:o} x{replication}") }
}

fn names(mut names: Vec<String>) -> String {
    names.sort();
    names.join(" ")
}

fn summary(files: u64, folders: u64, bytes: u64) -> String {
    format!("{files} files, {folders} folders, {bytes} bytes")
}

async fn by_hadoop(client: &hdfs_native::Client, op: Op) -> Result<Option<String>, HdfsError> {
    let at = |path: &str| at("hadoop", path);
    let write = async |path: &str, length, options: WriteOptions| {
        let mut writer = client.create(&at(path), options).await?;
        writer.write_bytes(bytes_of(path, length)).await?;
        writer.close().await?;
        Ok::<_, HdfsError>(done())
    };
    let options = || WriteOptions::default().permission(0o644);
    Ok(Some(match op {
        Mkdirs(path, mode) => client.mkdirs(&at(path), mode.into(), true).await.map(|()| done())?,
        Create(path, length) => write(path, length, options()).await?,
        Overwrite(path, length) => write(path, length, options().overwrite(true)).await?,
        CreateHere(path) => write(path, 0, options().create_parent(false)).await?,
        Append(path, length) => {
            let mut writer = client.append(&at(path)).await?;
            writer.write_bytes(bytes_of(path, length)).await?;
            writer.close().await.map(|()| done())?
        }
        Read(path) => {
            let reader = client.read(&at(path)).await?;
            told_of_bytes(path, &reader.read_range(0, reader.file_length()).await?)
        }
        Stat(path) => {
            let found = client.get_file_info(&at(path)).await?;
            let replication = found.replication.unwrap_or(0).into();
            status(found.isdir, found.length as u64, found.permission, replication)
        }
        List(path) => {
            let found = client.list_status(&at(path), false).await?;
            let last = |path: String| path.rsplit('/').next().unwrap_or("").to_owned();
            names(found.into_iter().map(|entry| last(entry.path)).collect())
        }
        Summary(path) => {
            let found = client.get_content_summary(&at(path)).await?;
            summary(found.file_count, found.directory_count, found.length)
        }
        Rename(from, to) => client.rename(&at(from), &at(to), false).await.map(|()| done())?,
        RenameOver(from, to) => client.rename(&at(from), &at(to), true).await.map(|()| done())?,
        Delete(path) => yes_or_no(client.delete(&at(path), false).await?),
        DeleteAll(path) => yes_or_no(client.delete(&at(path), true).await?),
        Chmod(path, mode) => client.set_permission(&at(path), mode.into()).await.map(|()| done())?,
        Chown(path, owner) => client.set_owner(&at(path), Some(owner), None).await.map(|()| done())?,
        Times(path, time) => client.set_times(&at(path), time, time).await.map(|()| done())?,
        Replicas(path, count) => yes_or_no(client.set_replication(&at(path), count.into()).await?),
        Truncate(..) | Concat(..) | Access(..) | Checksum(_) => return Ok(None),
    }))
}

/// What the independent client cannot ask.
async fn by_raw_calls(url: &str, user: &str, op: Op) -> anyhow::Result<Result<String, String>> {
    let at = |path: &str| at("hadoop", path);
    Ok(match op {
        Truncate(path, new_length) => {
            let request = TruncateRequestProto { src: at(path), new_length, client_name: "doors".to_owned() };
            let answer = raw_rpc::call::<TruncateResponseProto>(url, user, "truncate", &request).await?;
            answer.map(|answer| yes_or_no(answer.result))
        }
        Concat(target, source) => {
            let request = ConcatRequestProto { trg: at(target), srcs: vec![at(source)] };
            let answer = raw_rpc::call::<ConcatResponseProto>(url, user, "concat", &request).await?;
            answer.map(|_| done())
        }
        Access(path, mode) => {
            let request = CheckAccessRequestProto { path: at(path), mode: mode.into() };
            let answer =
                raw_rpc::call::<CheckAccessResponseProto>(url, user, "checkAccess", &request).await?;
            answer.map(|_| done())
        }
        other => bail!("{other:?} has another way"),
    })
}

/// The class of the exception; the client has made its own errors of some.
fn class_of_hadoop(error: HdfsError) -> anyhow::Result<String> {
    Ok(match error {
        HdfsError::RPCError(class, _) => simple(&class),
        HdfsError::FileNotFound(_) => MISSING.to_owned(),
        HdfsError::AlreadyExists(_) => EXISTS.to_owned(),
        other => bail!("through Hadoop RPC: {other}"),
    })
}

async fn by_web(web: &Web, user: &str, op: Op) -> anyhow::Result<String> {
    let at = |path: &str| at("web", path);
    let (method, path, query) = match op {
        Mkdirs(path, mode) => ("PUT", path, format!("op=MKDIRS&permission={mode:o}")),
        Create(path, length) => {
            return sent(web, user, "PUT", path, "op=CREATE&permission=644", length).await;
        }
        Overwrite(path, length) => {
            return sent(web, user, "PUT", path, "op=CREATE&permission=644&overwrite=true", length).await;
        }
        CreateHere(path) => {
            return sent(web, user, "PUT", path, "op=CREATE&permission=644&createparent=false", 0).await;
        }
        Append(path, length) => return sent(web, user, "POST", path, "op=APPEND", length).await,
        Read(path) => ("GET", path, "op=OPEN".to_owned()),
        Stat(path) => ("GET", path, "op=GETFILESTATUS".to_owned()),
        List(path) => ("GET", path, "op=LISTSTATUS".to_owned()),
        Summary(path) => ("GET", path, "op=GETCONTENTSUMMARY".to_owned()),
        Rename(from, to) => ("PUT", from, format!("op=RENAME&renameoptions=NONE&destination={}", at(to))),
        RenameOver(from, to) => {
            ("PUT", from, format!("op=RENAME&renameoptions=OVERWRITE&destination={}", at(to)))
        }
        Delete(path) => ("DELETE", path, "op=DELETE".to_owned()),
        DeleteAll(path) => ("DELETE", path, "op=DELETE&recursive=true".to_owned()),
        Chmod(path, mode) => ("PUT", path, format!("op=SETPERMISSION&permission={mode:o}")),
        Chown(path, owner) => ("PUT", path, format!("op=SETOWNER&owner={owner}")),
        Times(path, time) => ("PUT", path, format!("op=SETTIMES&modificationtime={time}&accesstime={time}")),
        Replicas(path, count) => ("PUT", path, format!("op=SETREPLICATION&replication={count}")),
        Truncate(path, length) => ("POST", path, format!("op=TRUNCATE&newlength={length}")),
        Concat(target, source) => ("POST", target, format!("op=CONCAT&sources={}", at(source))),
        Access(path, bits) => {
            let letters = [(4, 'r'), (2, 'w'), (1, 'x')];
            let action: String =
                letters.iter().map(|(bit, letter)| if bits & bit == 0 { '-' } else { *letter }).collect();
            ("GET", path, format!("op=CHECKACCESS&fsaction={action}"))
        }
        Checksum(path) => ("GET", path, "op=GETFILECHECKSUM".to_owned()),
    };
    let answer = web.follow(user, method, &at(path), &query).await?;
    if let Read(path) = op
        && answer.status == 200
    {
        return Ok(told_of_bytes(path, &Bytes::from(answer.body)));
    }
    let (_, class, _) = answer.error();
    if !class.is_empty() {
        return Ok(class);
    }
    shape(op, path, &answer.json())
}

async fn sent(
    web: &Web,
    user: &str,
    method: &str,
    path: &str,
    query: &str,
    length: usize,
) -> anyhow::Result<String> {
    let answer = web.send_bytes(user, method, &at("web", path), query, &bytes_of(path, length)).await?;
    let (_, class, _) = answer.error();
    Ok(if class.is_empty() { done() } else { class })
}

/// What WebHDFS's JSON says, in the words of the scenario.
fn shape(op: Op, path: &str, told: &Value) -> anyhow::Result<String> {
    let number = |value: &Value| value.as_u64().context("a number");
    if let Some(boolean) = told["boolean"].as_bool() {
        return Ok(if matches!(op, Mkdirs(..)) { done() } else { yes_or_no(boolean) });
    }
    let found = &told["FileStatus"];
    if found.is_object() {
        let mode = u16::from_str_radix(found["permission"].as_str().unwrap_or(""), 8)?;
        let (length, replication) = (number(&found["length"])?, number(&found["replication"])?);
        return Ok(status(found["type"] == "DIRECTORY", length, mode, replication));
    }
    if let Some(entries) = told["FileStatuses"]["FileStatus"].as_array() {
        let own = path.rsplit('/').next().unwrap_or("");
        let suffixes = entries.iter().map(|entry| entry["pathSuffix"].as_str().unwrap_or(""));
        return Ok(names(suffixes.map(|name| if name.is_empty() { own } else { name }.to_owned()).collect()));
    }
    let sums = &told["ContentSummary"];
    if sums.is_object() {
        let (files, folders) = (number(&sums["fileCount"])?, number(&sums["directoryCount"])?);
        return Ok(summary(files, folders, number(&sums["length"])?));
    }
    let checksum = &told["FileChecksum"]["algorithm"];
    Ok(checksum.as_str().map_or_else(done, str::to_owned))
}

async fn by_grpc(client: &Client, op: Op) -> FsResult<String> {
    let at = |path: &str| at("grpc", path);
    let write = async |path: &str, length, create: steadfs_client::Create| {
        let mut writer = create.mode(0o644).await?;
        writer.write_all(bytes_of(path, length)).await?;
        writer.close().await.map(|()| done())
    };
    Ok(match op {
        Mkdirs(path, mode) => client.mkdirs_with(&at(path), mode, true).await.map(|()| done())?,
        Create(path, length) => write(path, length, client.create(&at(path))).await?,
        Overwrite(path, length) => write(path, length, client.create(&at(path)).overwrite(true)).await?,
        CreateHere(path) => write(path, 0, client.create(&at(path)).create_parent(false)).await?,
        Append(path, length) => {
            let mut writer = client.append(&at(path)).await?;
            writer.write_all(bytes_of(path, length)).await?;
            writer.close().await.map(|()| done())?
        }
        Read(path) => told_of_bytes(path, &client.read(&at(path), 16 << 20).await?),
        Stat(path) => {
            let found = client.stat(&at(path)).await?;
            status(found.directory, found.length, found.mode, found.replication.into())
        }
        List(path) => {
            let found = client.list_all(&at(path)).await?;
            names(found.iter().map(|entry| entry.name().to_owned()).collect())
        }
        Summary(path) => {
            let found = client.content_summary(&at(path)).await?;
            summary(found.files, found.directories, found.length)
        }
        Rename(from, to) => client.rename(&at(from), &at(to)).await.map(|()| done())?,
        RenameOver(from, to) => client.rename_over(&at(from), &at(to)).await.map(|()| done())?,
        Delete(path) => yes_or_no(client.delete(&at(path), false).await?),
        DeleteAll(path) => yes_or_no(client.delete(&at(path), true).await?),
        Chmod(path, mode) => client.set_permission(&at(path), mode).await.map(|()| done())?,
        Chown(path, owner) => client.set_owner(&at(path), Some(owner), None).await.map(|()| done())?,
        Times(path, time) => {
            let time = Some(Millis(time));
            client.set_times(&at(path), time, time).await.map(|()| done())?
        }
        Replicas(path, count) => yes_or_no(client.set_replication(&at(path), count).await?),
        Truncate(path, length) => yes_or_no(client.truncate(&at(path), length).await?),
        Concat(target, source) => client.concat(&at(target), &[at(source)]).await.map(|()| done())?,
        Access(path, bits) => client.check_access(&at(path), bits).await.map(|()| done())?,
        Checksum(path) => client.checksum(&at(path)).await?.algorithm(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_answers_alike() -> anyhow::Result<()> {
    let test = TestCluster::start(2, |options| options.replication = 1).await?;
    let url = test.cluster.url();
    let doors = [Door::Hadoop(url.clone()), Door::Web(Web::of(&test)), Door::Grpc(url)];
    let mut wrong = String::new();
    for (user, op, expected) in SCENARIO {
        for door in &doors {
            let told =
                door.run(user, *op).await.with_context(|| format!("{op:?} through {}", door.name()))?;
            if let Some(told) = told.filter(|told| told != expected) {
                writeln!(wrong, "{:6} {user} {op:?}: expected {expected:?}, found {told:?}", door.name())?;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    test.stop().await;
    Ok(())
}
