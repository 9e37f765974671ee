//! What the machine allows: the limits that everything else is measured against.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::report::{moved, percentile};

const MESSAGE: usize = 64;
const SLICE: usize = 64 << 10;
const PIECE: usize = 1 << 20;
const PAGE: usize = 4 << 10;
const RECORD: usize = 256;
const TRIPS: usize = 20_000;
const SYNCS: usize = 2_000;
const PAGES: u64 = 200_000;

/// Measures all of it in `folder`, which must be on the disk that servers use; what is made there goes again.
pub(crate) fn run(folder: &Path, mebibytes: usize) -> anyhow::Result<Value> {
    fs::create_dir_all(folder)?;
    let file = folder.join("bench-raw");
    let disk = write(&file, mebibytes)?;
    let (read, pages) = (read(&file, mebibytes)?, pread(&file, mebibytes)?);
    let sync = sync(&folder.join("bench-raw-sync"))?;
    let found = json!({
        "tcp_round_trip_us": micros(round_trip()?),
        "fdatasync_us": micros(sync),
        "tcp_stream": tcp_stream(mebibytes)?,
        "disk_write": disk,
        "file_read": read,
        "file_pread_per_s": pages,
    });
    fs::remove_file(&file)?;
    Ok(found)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A server that answers each message with itself, from a thread that waits for it.
fn round_trip() -> anyhow::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut message = [0; MESSAGE];
        while server.read_exact(&mut message).is_ok() && server.write_all(&message).is_ok() {}
    });
    let (mut message, mut times) = ([7; MESSAGE], Vec::with_capacity(TRIPS));
    for _ in 0..TRIPS {
        let at = Instant::now();
        client.write_all(&message)?;
        client.read_exact(&mut message)?;
        times.push(at.elapsed());
    }
    drop(client);
    echo.join().ok().context("the server panicked")?;
    times.sort_unstable();
    Ok(percentile(&times, 50))
}

fn tcp_stream(mebibytes: usize) -> anyhow::Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let sink = thread::spawn(move || {
        let mut slice = vec![0; 4 * SLICE];
        let mut read = 0_u64;
        while let Ok(bytes) = server.read(&mut slice) {
            if bytes == 0 {
                break;
            }
            read += bytes as u64;
        }
        read
    });
    let (slice, start) = (vec![7; SLICE], Instant::now());
    for _ in 0..mebibytes * PIECE / SLICE {
        client.write_all(&slice)?;
    }
    drop(client);
    let read = sink.join().ok().context("the sink panicked")?;
    Ok(moved(read, start.elapsed()))
}

/// Syncs after writing over a short record, as a journal does.
fn sync(path: &Path) -> anyhow::Result<Duration> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.write_all_at(&vec![0; SYNCS * RECORD], 0)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for index in 0..SYNCS {
        let at = Instant::now();
        file.write_all_at(&[index as u8; RECORD], (index * RECORD) as u64)?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(percentile(&times, 50))
}

fn write(path: &Path, mebibytes: usize) -> anyhow::Result<Value> {
    let piece: Vec<u8> = (0..PIECE).map(|index| (index * 31 % 251) as u8).collect();
    let start = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..mebibytes {
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    Ok(moved((mebibytes * PIECE) as u64, start.elapsed()))
}

fn read(path: &Path, mebibytes: usize) -> anyhow::Result<Value> {
    let file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let start = Instant::now();
    for index in 0..mebibytes {
        file.read_exact_at(&mut piece, (index * PIECE) as u64)?;
    }
    Ok(moved((mebibytes * PIECE) as u64, start.elapsed()))
}

fn pread(path: &Path, mebibytes: usize) -> anyhow::Result<f64> {
    let file = File::open(path)?;
    let (mut page, pages) = (vec![0; PAGE], (mebibytes * PIECE / PAGE) as u64);
    let (mut state, start) = (0x9e37_79b9_7f4a_7c15_u64, Instant::now());
    for _ in 0..PAGES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut page, state % pages * PAGE as u64)?;
    }
    Ok(PAGES as f64 / start.elapsed().as_secs_f64())
}
