//! Reading a range of a file from whichever replica has it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;

use super::locations::Locations;
use super::replica::ReplicaRange;
use crate::backoff::Backoff;
use crate::data::DataError;
use crate::{BlockLocation, Replica};

/// How often locations are asked for anew when no replica could be read.
const LOCATION_ROUNDS: u32 = 3;
/// Longest wait before one of them: a datanode may be restarting, a writer may be mending its pipeline.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// What a replica gives next, and how it goes on.
type Advance = Result<(ReplicaRange, Option<Bytes>), DataError>;

/// A part of a block: which bytes of the file it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// First byte, in the file.
    pub(crate) start: u64,
    /// Behind the last byte, in the file.
    pub(crate) end: u64,
}

impl Part {
    /// What `block` gives of `start..end`; `start` lies in it.
    pub(crate) fn of(block: &BlockLocation, start: u64, end: u64) -> Self {
        Self { start, end: end.min(block.end()) }
    }

    pub(crate) fn len(self) -> u64 {
        self.end - self.start
    }
}

/// Reads one part of a block, going from replica to replica as they fail.
pub(crate) struct RangeReader {
    locations: Arc<Locations>,
    block: Arc<BlockLocation>,
    part: Part,
    source: Option<(Replica, ReplicaRange)>,
    rounds: u32,
    waits: Backoff,
    failure: Option<DataError>,
}

impl RangeReader {
    pub(crate) fn new(locations: Arc<Locations>, block: Arc<BlockLocation>, part: Part) -> Self {
        let waits = Backoff::new(locations.inner().options.location_wait, LONGEST_WAIT);
        Self { locations, block, part, source: None, rounds: 0, waits, failure: None }
    }

    /// Whether all its bytes were given.
    pub(crate) fn is_read(&self) -> bool {
        self.part.len() == 0
    }

    /// The next bytes of the part; `None` at its end.
    pub(crate) async fn next(&mut self) -> FsResult<Option<Bytes>> {
        while self.part.len() > 0 {
            let (replica, source) = match self.source.take() {
                Some((replica, source)) => (replica, Some(source)),
                None => match self.choose(None) {
                    Some(replica) => (replica, None),
                    None => {
                        self.next_round().await?;
                        continue;
                    }
                },
            };
            let (replica, result) = self.first_of(replica, source).await;
            match result {
                Ok((source, Some(bytes))) => {
                    self.part.start += bytes.len() as u64;
                    self.rounds = 0;
                    self.source = Some((replica, source));
                    return Ok(Some(bytes));
                }
                Ok((_, None)) => self.failed(&replica, DataError::protocol("fewer bytes than asked for")),
                Err(error) => self.failed(&replica, error),
            }
        }
        if let Some((replica, source)) = self.source.take()
            && let Err(error) = source.finish(self.locations.inner()).await
        {
            // All bytes are here and verified: only the connection is lost.
            tracing::debug!(%replica, %error, "a read did not end as it should");
        }
        Ok(None)
    }

    /// The next bytes from a replica or, if it lets us wait, from it or another one, whichever is first.
    async fn first_of(&self, replica: Replica, source: Option<ReplicaRange>) -> (Replica, Advance) {
        let locations = Arc::clone(&self.locations);
        let inner = locations.inner();
        let mut first = std::pin::pin!(self.advance(&replica, source));
        let Some(after) = inner.options.hedge_after else { return (replica.clone(), first.await) };
        if let Ok(result) = tokio::time::timeout(after, &mut first).await {
            return (replica.clone(), result);
        }
        let Ok(_place) = inner.hedges.try_acquire() else { return (replica.clone(), first.await) };
        while let Some(other) = self.choose(Some(&replica)) {
            let block = self.block.block;
            tracing::debug!(path = %locations.path(), %block, %replica, %other, "a read is slow: another replica is asked");
            let mut second = std::pin::pin!(self.advance(&other, None));
            tokio::select! {
                result = &mut first => match result {
                    Ok(_) => return (replica.clone(), result),
                    Err(error) => {
                        self.failed_at(&replica, &error);
                        return (other.clone(), second.await);
                    }
                },
                result = &mut second => match result {
                    Ok(_) => {
                        locations.note_slow(&replica.datanode);
                        return (other.clone(), result);
                    }
                    Err(error) => self.failed_at(&other, &error),
                },
            }
        }
        (replica.clone(), first.await)
    }

    /// The next bytes of a replica, which is asked for the part first if it was not yet.
    fn advance(
        &self,
        replica: &Replica,
        source: Option<ReplicaRange>,
    ) -> impl Future<Output = Advance> + Send + use<> {
        let (locations, block, replica) =
            (Arc::clone(&self.locations), Arc::clone(&self.block), replica.clone());
        let (start, end) = (self.part.start - block.offset, self.part.end - block.offset);
        async move {
            let mut source = match source {
                Some(source) => source,
                None => ReplicaRange::open(locations.inner(), &block, &replica, start, end).await?,
            };
            let bytes = source.next().await?;
            Ok((source, bytes))
        }
    }

    /// The first replica in the server's order that has not failed for this block; those of datanodes that failed for
    /// other blocks, or were slow, come last.
    fn choose(&self, besides: Option<&Replica>) -> Option<Replica> {
        let good = self
            .block
            .replicas
            .iter()
            .filter(|replica| besides.is_none_or(|other| other.datanode != replica.datanode))
            .filter(|replica| !self.locations.has_failed(self.block.block, &replica.datanode));
        good.min_by_key(|replica| self.locations.is_doubtful(&replica.datanode)).cloned()
    }

    fn failed(&mut self, replica: &Replica, error: DataError) {
        self.failed_at(replica, &error);
        self.failure = Some(error);
    }

    fn failed_at(&self, replica: &Replica, error: &DataError) {
        tracing::warn!(path = %self.locations.path(), block = %self.block.block, %replica, %error, "a replica cannot be read");
        self.locations.note_failed(self.block.block, &replica.datanode);
        if matches!(error, DataError::Checksum(_)) && !self.is_being_written() {
            self.report_bad(replica);
        }
    }

    /// The last block of a file that is open: its checksums change while it is read.
    fn is_being_written(&self) -> bool {
        self.locations.under_construction() && self.block.end() >= self.locations.length()
    }

    /// Tells the namenode in the background: the reader has other replicas to try.
    fn report_bad(&self, replica: &Replica) {
        let block = pb::LocatedBlock {
            block: Some(self.block.to_block()),
            offset: self.block.offset,
            locations: vec![replica.to_proto()],
            corrupt: true,
        };
        let inner = self.locations.inner().clone();
        tokio::spawn(async move {
            let request = pb::ReportBadReplicasRequest { blocks: vec![block] };
            let told = inner
                .calls
                .namespace(request, |mut c, r| async move { c.report_bad_replicas(r).await })
                .await;
            if let Err(error) = told {
                tracing::warn!(%error, "a bad replica was not reported");
            }
        });
    }

    async fn next_round(&mut self) -> FsResult<()> {
        if self.rounds >= LOCATION_ROUNDS {
            return Err(self.give_up());
        }
        self.rounds += 1;
        tokio::time::sleep(self.waits.next_wait()).await;
        self.locations.fetch(self.part.start).await?;
        self.block = self.locations.block_at(self.part.start).await?;
        self.locations.forgive(self.block.block);
        if self.block.end() < self.part.end {
            return Err(FsError::new(
                FsErrorKind::BlockMissing,
                format!("{} became shorter while it was read", self.locations.path()),
            ));
        }
        Ok(())
    }

    fn give_up(&self) -> FsError {
        let (path, block, offset) = (self.locations.path(), self.block.block, self.part.start);
        let replicas = self.block.replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match &self.failure {
            Some(error @ DataError::Checksum(_)) => FsError::new(
                FsErrorKind::Checksum,
                format!(
                    "{path}: no replica of {block} has right bytes at {offset} (tried {replicas}): {error}"
                ),
            ),
            Some(error) => FsError::new(
                FsErrorKind::BlockMissing,
                format!(
                    "{path}: no replica of {block} can be read at byte {offset} (tried {replicas}): {error}"
                ),
            ),
            None => FsError::new(
                FsErrorKind::BlockMissing,
                format!(
                    "{path}: no datanode has {block} (byte {offset} on): are all datanodes up? \
                     `steadfs admin fsck {path}` tells more"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steadfs_common::{BlockId, GenStamp};

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_a_range_exactly(
            lengths in prop::collection::vec(1_u64..50, 1..10), start in 0_u64..300, len in 1_u64..300,
        ) {
            let mut blocks = Vec::new();
            let mut offset = 0;
            for (index, length) in lengths.iter().enumerate() {
                blocks.push(BlockLocation {
                    block: BlockId(index as u64), stamp: GenStamp(1), offset, length: *length, replicas: vec![], corrupt: false,
                });
                offset += length;
            }
            let end = (start + len).min(offset);
            let mut at = start;
            while at < end {
                let block = blocks.iter().find(|block| at >= block.offset && at < block.end()).unwrap();
                let part = Part::of(block, at, end);
                prop_assert!(part.start == at && part.len() > 0);
                prop_assert!(part.start >= block.offset && part.end <= block.end());
                at = part.end;
            }
            prop_assert!(at == end || start >= offset);
        }
    }
}
