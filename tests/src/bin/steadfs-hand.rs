//! Does on a cluster what it is told, through our own client, for the tests that kill what is beneath it.
//!
//! A request is a line `ID LENGTH VERB WORD...` and LENGTH bytes; an answer is `ID ok|failed LENGTH` and LENGTH bytes.
//! Requests run at the same time. `conformance/java/Hand.java` says the same things through the stock client.
//!
//! `steadfs-hand URL`

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use steadfs_client::xattr::{XAttrFlags, XAttrName};
use steadfs_client::{Client, ClientOptions, FsResult, Writer};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// The longest payload of a request.
const MAX_PAYLOAD: usize = 256 << 20;
/// The longest line of a request.
const MAX_LINE: u64 = 64 << 10;
/// The longest file that is read whole.
const MAX_FILE: usize = 1 << 30;
/// How often a file that is being closed elsewhere is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long that may take.
const CLOSING: Duration = Duration::from_secs(60);

struct Hand {
    client: Client,
    /// Files that stay open from one request to the next.
    open: Mutex<HashMap<String, Writer>>,
}

struct Request {
    id: String,
    words: Vec<String>,
    payload: Bytes,
}

fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("wants the URL of a cluster")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let options = ClientOptions {
        connect_timeout: Duration::from_secs(60),
        call_timeout: Duration::from_secs(120),
        wait_for_start: true,
        ..ClientOptions::default()
    };
    let client = runtime.block_on(Client::connect_with(&url, options))?;
    let hand = Arc::new(Hand { client, open: Mutex::default() });
    let mut input = io::stdin().lock();
    while let Some(request) = next_request(&mut input)? {
        let hand = hand.clone();
        runtime.spawn(async move {
            let (said, bytes) = match hand.work(&request).await {
                Ok(bytes) => ("ok", bytes),
                Err(error) => ("failed", format!("{error:#}").into()),
            };
            // Who told us to work is gone if this fails; then our input ends as well.
            let _ = answer(&request.id, said, &bytes);
        });
    }
    runtime.shutdown_background();
    Ok(())
}

fn next_request(input: &mut impl BufRead) -> anyhow::Result<Option<Request>> {
    let mut line = String::new();
    if input.take(MAX_LINE).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(String::from);
    let (id, length) = (words.next().context("no id")?, words.next().context("no length")?);
    let length: usize = length.parse()?;
    ensure!(length <= MAX_PAYLOAD, "a payload of {length} bytes");
    let mut payload = vec![0; length];
    input.read_exact(&mut payload)?;
    Ok(Some(Request { id, words: words.collect(), payload: payload.into() }))
}

fn answer(id: &str, said: &str, bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{id} {said} {}", bytes.len())?;
    out.write_all(bytes)?;
    out.flush()
}

impl Hand {
    async fn work(&self, request: &Request) -> anyhow::Result<Bytes> {
        let words: Vec<&str> = request.words.iter().map(String::as_str).collect();
        let payload = request.payload.clone();
        match words[..] {
            ["mkdir", path] => self.client.mkdirs(path).await?,
            ["create", path] => self.client.write(path, payload).await?,
            ["append", path] => {
                let mut writer = self.client.append(path).await?;
                writer.write_all(payload).await?;
                writer.close().await?;
            }
            ["open", path] => {
                let writer = self.client.create(path).await?;
                self.open.lock().await.insert(path.to_owned(), writer);
            }
            ["sync", path] => self.sync(path, payload).await?,
            ["close", path] => self.opened(path).await?.close().await?,
            ["truncate", path, length] => {
                self.client.truncate(path, length.parse()?).await?;
                self.closed(path).await?;
            }
            ["rename", from, to] => self.client.rename(from, to).await?,
            ["delete", path] => ensure!(self.client.delete(path, true).await?, "nothing was there"),
            ["setx", path, name] => {
                let name = XAttrName::parse(name)?;
                self.client.set_xattr(path, &name, Some(&payload), XAttrFlags::SET).await?;
            }
            ["unsetx", path, name] => self.client.remove_xattr(path, &XAttrName::parse(name)?).await?,
            ["xattrs", path] => return self.xattrs(path).await,
            ["recover", path] => self.recover(path).await?,
            ["walk", path] => return self.walk(path).await,
            ["read", path] => return Ok(self.client.read(path, MAX_FILE).await?),
            _ => bail!("not understood: {words:?}"),
        }
        Ok(Bytes::new())
    }

    async fn opened(&self, path: &str) -> anyhow::Result<Writer> {
        self.open.lock().await.remove(path).context("not open")
    }

    /// Writes into an open file, so that it stays. A file for which that fails is given up.
    async fn sync(&self, path: &str, payload: Bytes) -> anyhow::Result<()> {
        let mut writer = self.opened(path).await?;
        let done: FsResult<()> = async {
            writer.write_all(payload).await?;
            writer.hsync().await
        }
        .await;
        match done {
            Ok(()) => {
                self.open.lock().await.insert(path.to_owned(), writer);
                Ok(())
            }
            Err(error) => {
                writer.abort().await;
                Err(error.into())
            }
        }
    }

    /// Returns once nobody writes the file.
    async fn closed(&self, path: &str) -> anyhow::Result<()> {
        let waited = async {
            while self.client.stat(path).await?.under_construction {
                sleep(POLL).await;
            }
            FsResult::Ok(())
        };
        Ok(tokio::time::timeout(CLOSING, waited).await.context("is not closed")??)
    }

    async fn recover(&self, path: &str) -> anyhow::Result<()> {
        if let Some(writer) = self.open.lock().await.remove(path) {
            writer.abort().await;
        }
        let recovered = async {
            while !self.client.recover_lease(path).await? {
                sleep(POLL).await;
            }
            FsResult::Ok(())
        };
        Ok(tokio::time::timeout(CLOSING, recovered).await.context("is not recovered")??)
    }

    /// A line for each thing below a folder: `d 0 PATH`, `f LENGTH PATH`, or `w LENGTH PATH` for a file being written.
    async fn walk(&self, path: &str) -> anyhow::Result<Bytes> {
        let all: Vec<_> = self.client.walk(path).try_collect().await?;
        let lines = all.iter().map(|status| {
            let kind = match (status.directory, status.under_construction) {
                (true, _) => 'd',
                (false, false) => 'f',
                (false, true) => 'w',
            };
            format!("{kind} {} {}\n", status.length, status.path)
        });
        Ok(lines.collect::<String>().into())
    }

    /// A line for each attribute: `NAME VALUE`, the value in hex.
    async fn xattrs(&self, path: &str) -> anyhow::Result<Bytes> {
        let all = self.client.xattrs(path).await?;
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(all.iter().map(|(name, value)| format!("{name} {}\n", hex(value))).collect::<String>().into())
    }
}
