//! Random changes by two mounts, our client and a Hadoop client in turn: after each of them all four see what a local disk has,
//! and whoever holds a file open that lost its name reads it on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdfs_native::{ClientBuilder, HdfsError, WriteOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use steadfs_client::xattr::{XAttrFlags, XAttrName};
use steadfs_client::{Client, FsErrorKind, FsResult};
use steadfs_tests::TestCluster;
use tokio::runtime::Handle;

use super::ops::{Data, NAMES, data, place};
use super::{asked, mapped};
use crate::mounted::Mounted;

/// What a usual run does.
const CASES: usize = 10;
const TURNS: usize = 30;
/// Runs in search of a smaller example.
const SHRINKS: u32 = 200;
/// Files held open at one time.
const MAX_HELD: usize = 6;
/// The attribute that is set.
const ATTRIBUTE: &str = "user.x";
/// Within this a mount is told of other names; content is seen at once.
const TOLD: Duration = Duration::from_secs(10);

/// One party makes one change to one file.
#[derive(Clone, Debug)]
struct Turn {
    /// A mount (0, 1), our client (2), the Hadoop client (3). What one cannot do, it does in its own way.
    who: usize,
    name: &'static str,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    /// The whole content.
    Write(Data),
    /// One write after the other, each to the end.
    Append(Vec<Data>),
    Overwrite {
        at: u64,
        data: Data,
    },
    /// Shorter or longer, and then on from that end.
    Cut {
        length: u64,
        data: Data,
    },
    /// Through a mapping.
    Mapped {
        at: u64,
        data: Data,
    },
    Unlink,
    RenameTo(&'static str),
    Attribute(Vec<u8>),
    /// Opens it, and keeps it open.
    Hold,
}

fn turns() -> impl Strategy<Value = Turn> {
    let name = || prop::sample::select(&NAMES[..]);
    let change = prop_oneof![
        4 => data().prop_map(Change::Write),
        4 => prop::collection::vec(data(), 1..4).prop_map(Change::Append),
        3 => (place(), data()).prop_map(|(at, data)| Change::Overwrite { at, data }),
        3 => (place(), data()).prop_map(|(length, data)| Change::Cut { length, data }),
        2 => (place(), data()).prop_map(|(at, data)| Change::Mapped { at, data }),
        2 => Just(Change::Unlink),
        4 => name().prop_map(Change::RenameTo),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Change::Attribute),
        4 => Just(Change::Hold),
    ];
    (0..4_usize, name(), change).prop_map(|(who, name, change)| Turn { who, name, change })
}

impl Turn {
    /// As its party can do it.
    fn possible(&self) -> Self {
        let change = match (self.who, &self.change) {
            (2 | 3, Change::Mapped { data, .. }) => Change::Append(vec![*data]),
            (3, Change::Overwrite { data, .. }) => Change::Write(*data),
            (3, Change::Cut { .. }) => Change::Unlink,
            (_, change) => change.clone(),
        };
        Self { change, ..self.clone() }
    }

    /// Whether the file keeps its identity, and gets another content.
    fn is_in_place(&self) -> bool {
        match self.change {
            Change::Write(_) => self.who < 2,
            Change::Append(_) | Change::Overwrite { .. } | Change::Cut { .. } | Change::Mapped { .. } => true,
            Change::Unlink | Change::RenameTo(_) | Change::Attribute(_) | Change::Hold => false,
        }
    }
}

/// A file that is held open, on a mount and on the disk.
struct Held {
    mounted: File,
    local: File,
}

impl Held {
    fn check(&self) -> anyhow::Result<()> {
        let mut expected = vec![0; self.local.metadata()?.len() as usize];
        self.local.read_exact_at(&mut expected, 0)?;
        let mut found = vec![0; expected.len() + 1];
        let mut length = 0;
        while length < found.len() {
            match self.mounted.read_at(&mut found[length..], length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        ensure!(found[..length] == expected, "who holds it open reads {length} other bytes");
        Ok(())
    }
}

struct Many<'a> {
    local: &'a Path,
    mounts: [Mounted; 2],
    ours: Client,
    hadoop: hdfs_native::Client,
    runtime: Handle,
    cases: AtomicUsize,
}

impl Many<'_> {
    fn run(&self, turns: &[Turn]) -> anyhow::Result<()> {
        let case = format!("case-{}", self.cases.fetch_add(1, Ordering::Relaxed));
        let local = self.local.join(&case);
        fs::create_dir(&local)?;
        fs::create_dir(self.mounts[0].path(&case))?;
        within(TOLD, || Ok(self.mounts[1].path(&case).is_dir())).context("the folder")?;
        let mut held: Vec<Held> = Vec::new();
        for (number, turn) in turns.iter().enumerate() {
            let turn = turn.possible();
            self.turn(&case, &turn, &mut held).with_context(|| format!("turn {number}, {turn:?}"))?;
        }
        drop(held);
        fs::remove_dir_all(self.mounts[0].path(&case))?;
        Ok(fs::remove_dir_all(local)?)
    }

    fn turn(&self, case: &str, turn: &Turn, held: &mut Vec<Held>) -> anyhow::Result<()> {
        let local = self.local.join(case);
        // What is in a file is seen at once, a name that means another file when mounts were told of it.
        let mut within = TOLD;
        if turn.is_in_place()
            && let Ok(changed) = fs::metadata(local.join(turn.name))
        {
            within = Duration::ZERO;
            // Who reads a file that is changed in place may see either.
            held.retain(|held| held.local.metadata().is_ok_and(|known| known.ino() != changed.ino()));
        }
        match &turn.change {
            Change::Hold => {
                let opened = File::open(self.mounts[turn.who % 2].path(case).join(turn.name));
                match (opened, File::open(local.join(turn.name))) {
                    (Ok(mounted), Ok(local)) if held.len() < MAX_HELD => held.push(Held { mounted, local }),
                    (opened, expected) => ensure!(opened.is_ok() == expected.is_ok(), "opened: {opened:?}"),
                }
            }
            _ if turn.who < 2 => {
                let found = by_calls(&self.mounts[turn.who].path(case), turn);
                let expected = by_calls(&local, turn);
                ensure!(found == expected, "{found:?}, but on the disk {expected:?}");
            }
            _ => {
                let found = self.runtime.block_on(self.by_client(case, turn, &local));
                let expected = as_clients_do(&local, turn);
                ensure!(found.is_ok() == expected.is_ok(), "{found:?}, but on the disk {expected:?}");
            }
        }
        for name in NAMES {
            self.see(&format!("{case}/{name}"), within).with_context(|| name.to_owned())?;
        }
        held.iter().try_for_each(Held::check)
    }

    /// All four see what the disk has.
    fn see(&self, path: &str, told_within: Duration) -> anyhow::Result<()> {
        let expected = seen(&self.local.join(path));
        for (number, mount) in self.mounts.iter().enumerate() {
            let mut found = seen(&mount.path(path));
            let same = within(told_within, || {
                if found != expected {
                    found = seen(&mount.path(path));
                }
                Ok(found == expected)
            });
            same.with_context(|| format!("mount {number} sees {}, not {}", said(&found), said(&expected)))?;
        }
        let content = expected.ok().map(|(bytes, _)| bytes);
        let at = format!("/{path}");
        let read = match self.runtime.block_on(self.ours.read(&at, 64 << 20)) {
            Ok(bytes) => Some(bytes.to_vec()),
            Err(error) if error.kind() == FsErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        ensure!(read == content, "our client sees something else");
        let read = match self.runtime.block_on(self.read_hadoop(&at)) {
            Ok(bytes) => Some(bytes),
            Err(HdfsError::FileNotFound(_)) => None,
            Err(HdfsError::RPCError(class, _)) if class.ends_with("FileNotFoundException") => None,
            Err(error) => return Err(error.into()),
        };
        ensure!(read == content, "the Hadoop client sees something else");
        Ok(())
    }

    async fn read_hadoop(&self, path: &str) -> hdfs_native::Result<Vec<u8>> {
        let reader = self.hadoop.read(path).await?;
        if reader.file_length() == 0 {
            return Ok(Vec::new());
        }
        Ok(reader.read_range(0, reader.file_length()).await?.to_vec())
    }

    async fn by_client(&self, case: &str, turn: &Turn, local: &Path) -> anyhow::Result<()> {
        let path = format!("/{case}/{}", turn.name);
        match &turn.change {
            Change::Write(data) if turn.who == 2 => {
                Ok(self.ours.write(&path, data.bytes()).await.map(|_| ())?)
            }
            Change::Write(data) => {
                let mut writer = self.hadoop.create(&path, WriteOptions::default().overwrite(true)).await?;
                writer.write_bytes(data.bytes().into()).await?;
                Ok(writer.close().await?)
            }
            Change::Append(all) if turn.who == 2 => {
                let mut writer = self.ours.append(&path).await?;
                for data in all {
                    writer.write_all(data.bytes()).await?;
                }
                Ok(writer.close().await?)
            }
            Change::Append(all) => {
                let mut writer = self.hadoop.append(&path).await?;
                for data in all {
                    writer.write_bytes(data.bytes().into()).await?;
                }
                Ok(writer.close().await?)
            }
            Change::Overwrite { data, .. } => {
                let mut writer = self.ours.replace(&path).await?;
                writer.write_all(data.bytes()).await?;
                Ok(writer.close().await?)
            }
            Change::Cut { length, .. } => {
                let there = fs::metadata(local.join(turn.name)).map_or(0, |known| known.len());
                Ok(cut(&self.ours, &path, there.min(*length)).await?)
            }
            Change::Unlink => {
                let deleted = if turn.who == 2 {
                    self.ours.delete(&path, false).await?
                } else {
                    self.hadoop.delete(&path, false).await?
                };
                ensure!(deleted, "nothing was there");
                Ok(())
            }
            Change::RenameTo(name) if *name == turn.name => Ok(()),
            Change::RenameTo(name) => {
                let to = format!("/{case}/{name}");
                if turn.who == 2 {
                    return Ok(self.ours.rename_over(&path, &to).await?);
                }
                Ok(self.hadoop.rename(&path, &to, true).await?)
            }
            Change::Attribute(value) => {
                let name = XAttrName::parse(ATTRIBUTE)?;
                Ok(self.ours.set_xattr(&path, &name, Some(value), XAttrFlags::SET).await?)
            }
            Change::Mapped { .. } | Change::Hold => unreachable!("{turn:?} is done elsewhere"),
        }
    }
}

/// What holds when a mount was told.
fn within(time: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < time, "not within {time:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Truncates, and waits until the file is closed again.
async fn cut(client: &Client, path: &str, length: u64) -> FsResult<()> {
    if client.truncate(path, length).await? {
        return Ok(());
    }
    while client.stat(path).await?.under_construction {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Bytes and the attribute of a file, which is opened for that.
type Look = Result<(Vec<u8>, Option<Vec<u8>>), Errno>;

fn seen(path: &Path) -> Look {
    let bytes = fs::read(path).map_err(errno)?;
    let mut value = [0; 100];
    let attribute = match rustix::fs::getxattr(path, ATTRIBUTE, &mut value[..]) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(Errno::NODATA) => None,
        Err(error) => return Err(error),
    };
    Ok((bytes, attribute))
}

fn said(seen: &Look) -> String {
    match seen {
        Ok((bytes, attribute)) => format!("{} bytes, {attribute:?}", bytes.len()),
        Err(error) => error.to_string(),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// A change by a program, on a mount or the disk.
fn by_calls(folder: &Path, turn: &Turn) -> Result<(), Errno> {
    let path = folder.join(turn.name);
    let open = |options: &mut OpenOptions| options.open(&path);
    let done = || -> std::io::Result<()> {
        match &turn.change {
            Change::Write(data) => fs::write(&path, data.bytes())?,
            Change::Append(all) => {
                let mut file = open(OpenOptions::new().append(true))?;
                all.iter().try_for_each(|data| file.write_all(&data.bytes()))?;
            }
            Change::Overwrite { at, data } => {
                open(OpenOptions::new().write(true))?.write_all_at(&data.bytes(), *at)?;
            }
            Change::Cut { length, data } => {
                let file = open(OpenOptions::new().write(true))?;
                file.set_len(*length)?;
                file.write_all_at(&data.bytes(), *length)?;
            }
            Change::Mapped { at, data } => {
                let file = open(OpenOptions::new().read(true).write(true))?;
                mapped::write(&file.into(), *at, &data.bytes())?;
            }
            Change::Unlink => fs::remove_file(&path)?,
            Change::RenameTo(name) => fs::rename(&path, folder.join(name))?,
            Change::Attribute(value) => {
                rustix::fs::setxattr(&path, ATTRIBUTE, value, XattrFlags::empty())?;
            }
            Change::Hold => unreachable!("it is done elsewhere"),
        }
        Ok(())
    };
    done().map_err(errno)
}

/// What a client's change is on the disk.
fn as_clients_do(folder: &Path, turn: &Turn) -> Result<(), Errno> {
    let path = folder.join(turn.name);
    let done = || -> std::io::Result<()> {
        match &turn.change {
            // Another file takes the place of the one that is there.
            Change::Write(data) => {
                let new = folder.join("new");
                fs::write(&new, data.bytes())?;
                fs::rename(new, &path)?;
            }
            Change::Overwrite { data, .. } => {
                OpenOptions::new().write(true).truncate(true).open(&path)?.write_all(&data.bytes())?;
            }
            Change::Cut { length, .. } => {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(file.metadata()?.len().min(*length))?;
            }
            _ => by_calls(folder, turn)?,
        }
        Ok(())
    };
    // A rename to itself is nothing to a client that is not asked.
    if matches!(turn.change, Change::RenameTo(name) if name == turn.name) {
        Ok(())
    } else {
        done().map_err(errno)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_many_do_in_turn_all_see_what_a_disk_has() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let local = tempfile::tempdir()?;
    let many = Many {
        local: local.path(),
        mounts: [
            Mounted::new(&test.cluster.url(), &[]).await?,
            Mounted::new(&test.cluster.url(), &["--block-size", "1MiB"]).await?,
        ],
        ours: test.client().await?,
        hadoop: ClientBuilder::new().with_url(test.cluster.url()).build()?,
        runtime: Handle::current(),
        cases: AtomicUsize::new(0),
    };
    let cases = u32::try_from(asked("STEADFS_MODEL_CASES", CASES)).unwrap_or(u32::MAX);
    let turns = prop::collection::vec(turns(), 1..asked("STEADFS_MODEL_OPERATIONS", TURNS));
    let config = Config { cases, max_shrink_iters: SHRINKS, failure_persistence: None, ..Config::default() };
    let outcome = std::thread::scope(|scope| {
        let compare = || {
            TestRunner::new(config).run(&turns, |turns| {
                many.run(&turns).map_err(|error| TestCaseError::fail(format!("{error:#}")))
            })
        };
        scope.spawn(compare).join()
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(TestError::Fail(why, least))) => {
            anyhow::bail!(
                "{why}\nafter {least:#?}\nthe mounts' logs:\n{}\n{}",
                many.mounts[0].log(),
                many.mounts[1].log()
            )
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => anyhow::bail!("the comparing thread panicked"),
    }
    drop(many);
    test.stop().await;
    Ok(())
}
