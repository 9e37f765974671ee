//! Two mounts, our client and a Hadoop client on the same files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::ensure;
use bytes::Bytes;
use hdfs_native::{ClientBuilder, WriteOptions};
use steadfs_client::Client;
use steadfs_tests::{BLOCK, TestCluster, content};

use crate::mounted::Mounted;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_close_here_an_open_there_sees_it() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let one = Mounted::new(&test.cluster.url(), &[]).await?;
    let two = Mounted::new(&test.cluster.url(), &[]).await?;
    for round in 0..8_usize {
        let bytes = content(&format!("round {round}"), 1_000 + round * 300_000 % 1_000_001);
        let written = bytes.clone();
        one.with(move |at| Ok(fs::write(at.join("f"), written)?)).await?;
        let expected = bytes.clone();
        two.with(move |at| {
            assert!(fs::read(at.join("f"))? == expected, "round {round}");
            Ok(())
        })
        .await?;
        assert!(client.read("/f", 4 << 20).await? == bytes);
    }
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_elsewhere_is_read_to_its_end_at_once() -> anyhow::Result<()> {
    const ROUNDS: usize = 30;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    // Of several blocks: the kernel reads as far as it believes the file to reach.
    let mut held = content("f", 2 * BLOCK as usize + 7).to_vec();
    client.write("/f", held.clone()).await?;
    for round in 0..ROUNDS {
        let length = held.len() as u64;
        let more = content(&format!("round {round}"), 1 + round * 1_009);
        let mut writer = client.append("/f").await?;
        writer.write_all(more.clone()).await?;
        mounted
            .with(move |at| {
                ensure!(fs::metadata(at.join("f"))?.len() == length, "round {round}");
                Ok(())
            })
            .await?;
        writer.close().await?;
        held.extend_from_slice(&more);
        let expected = held.clone();
        mounted
            .with(move |at| {
                let seen = fs::read(at.join("f"))?;
                ensure!(seen == expected, "round {round}: {} bytes of {}", seen.len(), expected.len());
                Ok(())
            })
            .await?;
    }
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_appended_is_not_written_over() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let one = Mounted::new(&test.cluster.url(), &[]).await?;
    client.write("/f", "0123456789").await?;
    let file = one
        .with(|at| {
            let file = OpenOptions::new().read(true).write(true).open(at.join("f"))?;
            file.write_all_at(b"here", 2)?;
            Ok(file)
        })
        .await?;
    let mut writer = client.append("/f").await?;
    writer.write_all(Bytes::from_static(b"there")).await?;
    writer.close().await?;
    const STALE: Option<i32> = Some(rustix::io::Errno::STALE.raw_os_error());
    one.with(move |_| {
        assert_eq!(file.sync_all().map_err(|error| error.raw_os_error()), Err(STALE));
        Ok(())
    })
    .await?;
    ensure!(client.read("/f", 1 << 20).await? == "0123456789there");
    // Opened anew, it is written as it is now; the kernel tells of the close before a little later.
    one.with(|at| {
        loop {
            let file = OpenOptions::new().write(true).open(at.join("f"))?;
            file.write_all_at(b"here", 2)?;
            match file.sync_all() {
                Err(error) if error.raw_os_error() == STALE => {}
                synced => return Ok(synced?),
            }
        }
    })
    .await?;
    ensure!(client.read("/f", 1 << 20).await? == "01here6789there");
    drop(one);
    test.stop().await;
    Ok(())
}

/// Who works on the files.
struct Party {
    one: Mounted,
    two: Mounted,
    ours: Client,
    hadoop: hdfs_native::Client,
}

/// Every way to change a file, by one of the four.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Write,
    Append,
    Overwrite,
    RenameOver,
    Truncate,
}

impl Party {
    const SIZE: usize = 4;

    fn mount(&self, who: usize) -> &Mounted {
        if who == 0 { &self.one } else { &self.two }
    }

    /// Makes a change by one of the four; gives what the file holds then. What a client cannot do, it does not.
    async fn change(&self, who: usize, turn: Turn, bytes: Bytes, held: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        match who {
            0 | 1 => self.mount(who).on_thread(move |at| by_mount(&at.join("f"), turn, &bytes, held)).await,
            2 => match turn {
                Turn::Append => {
                    let mut writer = self.ours.append("/f").await?;
                    writer.write_all(bytes.clone()).await?;
                    writer.close().await?;
                    Ok([held, bytes.to_vec()].concat())
                }
                Turn::Overwrite => {
                    let mut writer = self.ours.replace("/f").await?;
                    writer.write_all(bytes.clone()).await?;
                    writer.close().await?;
                    Ok(bytes.to_vec())
                }
                _ => {
                    self.ours.write("/g", bytes.clone()).await?;
                    self.ours.rename_over("/g", "/f").await?;
                    Ok(bytes.to_vec())
                }
            },
            _ => match turn {
                Turn::Append => {
                    let mut writer = self.hadoop.append("/f").await?;
                    writer.write_bytes(bytes.clone()).await?;
                    writer.close().await?;
                    Ok([held, bytes.to_vec()].concat())
                }
                _ => {
                    let options = WriteOptions::default().overwrite(true);
                    let mut writer = self.hadoop.create("/f", options).await?;
                    writer.write_bytes(bytes.clone()).await?;
                    writer.close().await?;
                    Ok(bytes.to_vec())
                }
            },
        }
    }

    /// All four see exactly this, at once.
    async fn see(&self, expected: &[u8]) -> anyhow::Result<()> {
        for who in [0, 1] {
            let expected = expected.to_vec();
            let seen = self.mount(who).on_thread(move |at| {
                let seen = fs::read(at.join("f"))?;
                ensure!(fs::metadata(at.join("f"))?.len() == expected.len() as u64, "its length is another");
                ensure!(seen == expected, "{} bytes instead of {}", seen.len(), expected.len());
                Ok(())
            });
            seen.await.map_err(|error| error.context(format!("mount {who}")))?;
        }
        ensure!(self.ours.read("/f", 16 << 20).await? == expected, "our client sees something else");
        let reader = self.hadoop.read("/f").await?;
        let seen = reader.read_range(0, reader.file_length()).await?;
        ensure!(seen == expected, "the Hadoop client sees something else");
        Ok(())
    }
}

fn by_mount(path: &std::path::Path, turn: Turn, bytes: &[u8], mut held: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    match turn {
        Turn::Write => fs::write(path, bytes)?,
        Turn::Append => {
            OpenOptions::new().append(true).open(path)?.write_all(bytes)?;
            held.extend_from_slice(bytes);
            return Ok(held);
        }
        Turn::Overwrite => {
            let at = held.len() / 2;
            OpenOptions::new().write(true).open(path)?.write_all_at(bytes, at as u64)?;
            held.resize(held.len().max(at + bytes.len()), 0);
            held[at..at + bytes.len()].copy_from_slice(bytes);
            return Ok(held);
        }
        Turn::RenameOver => {
            let other = path.with_file_name("g");
            fs::write(&other, bytes)?;
            fs::rename(other, path)?;
        }
        Turn::Truncate => {
            let length = held.len() * 2 / 3;
            OpenOptions::new().write(true).open(path)?.set_len(length as u64)?;
            held.truncate(length);
            return Ok(held);
        }
    }
    Ok(bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_a_file_the_next_open_anywhere_sees_it() -> anyhow::Result<()> {
    const TURNS: [Turn; 5] = [Turn::Write, Turn::Append, Turn::Overwrite, Turn::RenameOver, Turn::Truncate];
    const ROUNDS: usize = 40;
    let test = TestCluster::in_process(3).await?;
    let party = Party {
        one: Mounted::new(&test.cluster.url(), &[]).await?,
        two: Mounted::new(&test.cluster.url(), &["--block-size", "1MiB"]).await?,
        ours: test.client().await?,
        hadoop: ClientBuilder::new().with_url(test.cluster.url()).build()?,
    };
    party.ours.write("/f", "the first").await?;
    let mut held = b"the first".to_vec();
    for round in 0..ROUNDS {
        // Each of the four meets each way of changing, in a mixed order.
        let (who, turn) = (round * 7 % Party::SIZE, TURNS[round * 3 % TURNS.len()]);
        let bytes = content(&format!("round {round}"), 1 + round * 104_729 % 700_000);
        let said = format!("round {round}, {who} makes {turn:?}");
        held = party.change(who, turn, bytes, held).await.map_err(|error| error.context(said.clone()))?;
        party.see(&held).await.map_err(|error| error.context(said))?;
    }
    drop(party);
    test.stop().await;
    Ok(())
}
