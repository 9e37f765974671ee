//! Commands that pass bytes through: `cat`, `tail`, `append`.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use steadfs_client::{FileStream, FsErrorKind, Writer};
use steadfs_daemon::pool::DiskPool;

use crate::args::{AppendArgs, CatArgs, TailArgs};
use crate::failure::{Failure, Outcome};
use crate::out::Out;
use crate::run::Run;
use crate::session::{Remote, Session};

/// How often a file that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Bytes read from a local file or standard input at once.
const READ_BYTES: usize = 1 << 20;

pub(crate) async fn cat(session: &Session, args: CatArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let printed = cat_one(&remote, args.offset, args.length, &mut out).await;
            run.note(printed)?;
        }
    }
    out.flush().await
}

pub(crate) async fn cat_one(remote: &Remote, offset: u64, length: Option<u64>, out: &mut Out) -> Outcome<()> {
    let reader = remote.client.open(&remote.path).await.map_err(Failure::at(&remote.path))?;
    let mut stream = reader.stream_from(offset);
    copy_out(remote, &mut stream, length.unwrap_or(u64::MAX), out).await
}

async fn copy_out(remote: &Remote, stream: &mut FileStream, mut left: u64, out: &mut Out) -> Outcome<()> {
    while left > 0 {
        let Some(chunk) = stream.next_chunk().await.map_err(Failure::at(&remote.path))? else { break };
        let taken = left.min(chunk.len() as u64);
        left -= taken;
        out.bytes(&chunk[..taken as usize]).await?;
    }
    Ok(())
}

pub(crate) async fn tail(session: &Session, args: TailArgs) -> Outcome<()> {
    let mut out = session.out();
    let remote = session.literal(&args.path).await?;
    let reader = remote.client.open(&remote.path).await.map_err(Failure::at(&remote.path))?;
    let mut stream = reader.stream_from(reader.length().saturating_sub(args.bytes));
    loop {
        copy_out(&remote, &mut stream, u64::MAX, &mut out).await?;
        out.flush().await?;
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
        match reader.refresh().await {
            Ok(_) => {}
            // Its writer is mending a pipeline, or the namenode is away: the file is still there.
            Err(error) if error.is_transient() || error.kind() == FsErrorKind::BlockMissing => {}
            Err(error) => return Err(Failure::at(&remote.path)(error)),
        }
    }
}

pub(crate) async fn append(session: &Session, args: AppendArgs) -> Outcome<()> {
    let Some((file, sources)) = args.paths.split_last() else {
        return Err(Failure::usage("sources and a file are needed"));
    };
    let remote = session.literal(file).await?;
    let mut writer = open_to_append(&remote).await?;
    for source in sources {
        if let Err(failure) = copy_in(&session.pool, source, &mut writer, &remote.path, |_| {}).await {
            // What was appended before stays: it cannot be told from what others wrote.
            writer.abort().await;
            return Err(failure);
        }
    }
    writer.close().await.map_err(Failure::at(&remote.path))
}

async fn open_to_append(remote: &Remote) -> Outcome<Writer> {
    match remote.client.append(&remote.path).await {
        Err(error) if error.kind() == FsErrorKind::NotFound => {
            remote.client.create(&remote.path).create_parent(false).await.map_err(Failure::at(&remote.path))
        }
        opened => opened.map_err(Failure::at(&remote.path)),
    }
}

/// Copies the local file `source`, or standard input if it is `-`, to `writer`; tells `progress` how much came.
pub(crate) async fn copy_in(
    pool: &DiskPool,
    source: &str,
    writer: &mut Writer,
    path: &str,
    progress: impl Fn(u64),
) -> Outcome<()> {
    let opened: std::io::Result<Box<dyn Read + Send>> = match source {
        "-" => Ok(Box::new(std::io::stdin())),
        name => {
            let name = name.to_owned();
            pool.run(move || std::fs::File::open(name).map(|file| Box::new(file) as Box<dyn Read + Send>))
                .await
        }
    };
    let mut input = opened.map_err(Failure::local(source))?;
    loop {
        let (back, read) = pool.run(move || read_some(input)).await;
        input = back;
        let bytes = read.map_err(Failure::local(source))?;
        if bytes.is_empty() {
            return Ok(());
        }
        progress(bytes.len() as u64);
        writer.write_all(bytes).await.map_err(Failure::at(path))?;
    }
}

type Input = Box<dyn Read + Send>;

/// The next bytes of `input`, as many as one read gives; none at its end.
fn read_some(mut input: Input) -> (Input, std::io::Result<Bytes>) {
    let mut buffer = vec![0; READ_BYTES];
    let read = loop {
        match input.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    let bytes = read.map(|length| {
        buffer.truncate(length);
        Bytes::from(buffer)
    });
    (input, bytes)
}
