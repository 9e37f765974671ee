//! Files that are read in order, from other machines' replicas: their streams, and what ends these.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use steadfs_tests::{TestCluster, content, eventually};

use crate::mounted::{Mounted, on_thread};

const MIB: usize = 1 << 20;
/// Some blocks, and a part of one.
const LENGTH: usize = 21 * MIB + 1_234;
/// As if every replica lay on another machine.
const REMOTE: [&str; 4] = ["--local", "/nonexistent", "--block-size", "4MiB"];

/// Numbers that look like none in particular, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Reads on from places here and there, and compares.
fn read_here_and_there(file: &File, whole: &[u8], seed: u64, passes: usize) -> anyhow::Result<()> {
    let mut numbers = Numbers(seed);
    for _ in 0..passes {
        let mut at = numbers.below(LENGTH);
        let piece = [4 << 10, 100_000, MIB, 3 * MIB][numbers.below(4)];
        // The kernel's pages are given back, so that the server is asked.
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
        for _ in 0..1 + numbers.below(12) {
            let mut bytes = vec![0; piece.min(LENGTH - at)];
            file.read_exact_at(&mut bytes, at as u64)?;
            ensure!(bytes == whole[at..at + bytes.len()], "other bytes in {} from {at} on", bytes.len());
            at += bytes.len();
            if at == LENGTH {
                ensure!(file.read_at(&mut [0], at as u64)? == 0, "more than there is");
                break;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_anywhere_reads_what_is_there_though_a_datanode_goes() -> anyhow::Result<()> {
    let mut test = TestCluster::in_process(2).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[&REMOTE[..], &["--replication", "2"]].concat()).await?;
    let whole = content("anywhere", LENGTH);
    let written = whole.clone();
    let file = mounted
        .on_thread(move |at| {
            fs::write(at.join("f"), &written)?;
            Ok(Arc::new(File::open(at.join("f"))?))
        })
        .await?;
    let readers = |round: u64| {
        // Two share what is open, and with it a stream; one has its own.
        let own = mounted.path("f");
        (0..3).map(move |number| (number, own.clone())).map({
            let (file, whole) = (file.clone(), whole.clone());
            move |(number, own)| {
                let (file, whole) = (file.clone(), whole.clone());
                on_thread(move || {
                    let file = if number < 2 { file } else { Arc::new(File::open(own)?) };
                    read_here_and_there(&file, &whole, 0x9e37_79b9 + round * 7 + number, 25)
                })
            }
        })
    };
    for read in futures::future::try_join_all(readers(1)).await? {
        read?;
    }
    let reading = futures::future::try_join_all(readers(2));
    let (read, ()) = tokio::join!(reading, test.cluster.stop_datanode(0));
    for read in read? {
        read?;
    }
    drop((file, mounted));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_while_it_is_read_ends_there_and_goes_on_with_what_is_new() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &REMOTE).await?;
    let old = content("old", LENGTH);
    let mut writer = client.create("/f").block_size(4 * MIB as u64).await?;
    writer.write_all(old.clone()).await?;
    writer.close().await?;
    let path = mounted.path("f");
    let file = on_thread(move || File::open(path)).await??;
    let file = Arc::new(file);
    let read = async |from: usize, length: usize| {
        let file = file.clone();
        on_thread(move || -> std::io::Result<Bytes> {
            rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed)?;
            let mut bytes = vec![0; length];
            let mut at = 0;
            while at < length {
                match file.read_at(&mut bytes[at..], (from + at) as u64)? {
                    0 => break,
                    count => at += count,
                }
            }
            bytes.truncate(at);
            Ok(bytes.into())
        })
        .await?
        .map_err(anyhow::Error::from)
    };
    // There is a stream, which has come far.
    ensure!(read(0, 6 * MIB).await? == old[..6 * MIB], "other bytes");
    const CUT: usize = 7 * MIB + 5;
    client.truncate("/f", CUT as u64).await?;
    eventually("the file ends where it was cut", async || {
        Ok(read(6 * MIB, 4 * MIB).await.is_ok_and(|bytes| bytes == old[6 * MIB..CUT]))
    })
    .await?;
    ensure!(read(0, LENGTH).await? == old[..CUT], "other bytes before the cut");
    let new = content("new", 9 * MIB);
    let mut writer = eventually_append(&client).await?;
    writer.write_all(new.clone()).await?;
    writer.close().await?;
    let whole = [&old[..CUT], &new].concat();
    eventually("what is new is read", async || {
        Ok(read(6 * MIB, LENGTH).await.is_ok_and(|bytes| bytes == whole[6 * MIB..]))
    })
    .await?;
    ensure!(read(0, LENGTH).await? == whole, "other bytes");
    drop((file, mounted));
    test.stop().await;
    Ok(())
}

/// A writer at the end of the file, once its cut is carried out.
async fn eventually_append(client: &steadfs_client::Client) -> anyhow::Result<steadfs_client::Writer> {
    eventually("the cut is carried out", async || Ok(!client.stat("/f").await?.under_construction)).await?;
    Ok(client.append("/f").await?)
}
