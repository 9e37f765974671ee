//! One stream written and read through our client.

use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use steadfs_client::Client;

const PIECE_BYTES: usize = 1 << 20;

/// Writes and reads `mebibytes` `rounds` times; the first round is not counted.
pub(crate) async fn run(fs: &str, mebibytes: u64, replication: u16, rounds: u32) -> anyhow::Result<()> {
    let client = Client::connect(fs).await?;
    let path = format!("/bench-stream-{}", std::process::id());
    let piece: Bytes = (0..PIECE_BYTES).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into();
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    for round in 0..=rounds {
        let start = Instant::now();
        let mut writer = client.create(&path).overwrite(true).replication(replication).await?;
        for _ in 0..mebibytes {
            writer.write_all(piece.clone()).await?;
        }
        writer.close().await?;
        let wrote = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let reader = client.open(&path).await?;
        let mut stream = reader.stream();
        let mut bytes = 0_u64;
        while let Some(part) = stream.next_chunk().await? {
            bytes += part.len() as u64;
        }
        anyhow::ensure!(bytes == mebibytes << 20, "read {bytes} bytes of {}", mebibytes << 20);
        if round > 0 {
            writes.push(wrote);
            reads.push(start.elapsed().as_secs_f64());
        }
    }
    client.delete(&path, false).await.context("cannot remove the benchmark's file")?;
    let speed = |times: &mut Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        (mebibytes << 20) as f64 / times[times.len() / 2] / 1e9
    };
    println!(
        "{mebibytes} MiB, replication {replication}, median of {rounds}: write {:.2} GB/s, read {:.2} GB/s",
        speed(&mut writes),
        speed(&mut reads)
    );
    Ok(())
}
