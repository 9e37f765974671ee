//! Reading ahead: whole segments of a file, fetched before they are asked for, several at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use steadfs_client::{FsError, FsResult, Reader};

use super::locals::{LocalBlocks, Locals};
use crate::budget::{Budget, Share};

/// Bytes fetched by one request ahead of time.
const SEGMENT: u64 = 2 << 20;
/// Segments ahead of the reader, at most.
const AHEAD: u64 = 4;
/// A read this far from where the last one ended still belongs to the same pass: the kernel's requests overtake each
/// other.
const REACH: u64 = 2 << 20;

/// A segment under way or here. Its share of the budget goes with the last who holds it.
type Segment = Shared<BoxFuture<'static, Result<Piece, FsError>>>;

#[derive(Clone)]
struct Piece {
    /// As they came, one after the other.
    bytes: Arc<[Bytes]>,
    _share: Arc<Share>,
}

/// Bytes that were read, in pieces that are never copied together.
pub(crate) type Pieces = Vec<Bytes>;

/// One open file that is read, and what was fetched of it ahead.
pub(crate) struct Window {
    reader: Reader,
    locals: LocalBlocks,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the last read ended.
    next: u64,
    /// Reads that went on where another ended, in a row.
    streak: u32,
    /// By number.
    segments: BTreeMap<u64, Segment>,
}

impl Window {
    pub(crate) fn new(reader: Reader, budget: Budget, locals: &Locals) -> Self {
        Self { reader, locals: LocalBlocks::new(locals), budget, state: Mutex::default() }
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The bytes from `offset` on, fewer only at the end of the file.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> FsResult<Pieces> {
        let end = offset.saturating_add(length as u64).min(self.reader.length());
        if offset >= end {
            return Ok(Pieces::new());
        }
        let range = offset..end;
        let Some(segments) = self.plan(&range) else {
            return self.directly(range).await;
        };
        let mut parts = Pieces::new();
        for (number, segment) in segments {
            let Ok(piece) = segment.await else {
                // Asked again by itself, so that this read has its own tries and its own error.
                self.state.lock().segments.remove(&number);
                return self.directly(range).await;
            };
            let start = number * SEGMENT;
            cut(&piece.bytes, range.start.saturating_sub(start)..range.end - start, &mut parts);
        }
        Ok(parts)
    }

    async fn directly(&self, range: Range<u64>) -> FsResult<Pieces> {
        self.locals.read(&self.reader, range, false).await
    }

    /// The segments that hold `range`, with those ahead of it begun, if the file is being read in order.
    fn plan(&self, range: &Range<u64>) -> Option<Vec<(u64, Segment)>> {
        let mut state = self.state.lock();
        let near = range.start.abs_diff(state.next) <= REACH;
        state.streak = if near { state.streak.saturating_add(1) } else { 0 };
        state.next = if near { state.next.max(range.end) } else { range.end };
        let wanted = range.start / SEGMENT..=(range.end - 1) / SEGMENT;
        if !near && !wanted.clone().all(|number| state.segments.contains_key(&number)) {
            return None;
        }
        // What lies behind the reader is not asked for again.
        let behind = wanted.start().saturating_sub(1);
        let ahead = wanted.end() + u64::from(state.streak.saturating_sub(1)).min(AHEAD);
        state.segments.retain(|number, _| (behind..=ahead).contains(number));
        let last = self.reader.length().saturating_sub(1) / SEGMENT;
        let mut segments = Vec::new();
        for number in *wanted.start()..=ahead.min(last) {
            let needed = wanted.contains(&number);
            let segment = match state.segments.get(&number) {
                Some(segment) => segment.clone(),
                // No room: this read asks for exactly what it needs, and nothing is fetched ahead.
                None => match self.budget.try_take(SEGMENT as usize) {
                    Some(share) => self.begin(&mut state, number, share),
                    None if needed => return None,
                    None => break,
                },
            };
            if needed {
                segments.push((number, segment));
            }
        }
        Some(segments)
    }

    fn begin(&self, state: &mut State, number: u64, share: Share) -> Segment {
        let (reader, locals) = (self.reader.clone(), self.locals.clone());
        let fetched = tokio::spawn(async move {
            let range = number * SEGMENT..(number + 1) * SEGMENT;
            let bytes = locals.read(&reader, range, true).await?;
            Ok(Piece { bytes: bytes.into(), _share: Arc::new(share) })
        });
        let segment = async move { fetched.await.map_err(|_| FsError::refused("a read was given up"))? };
        let segment = segment.boxed().shared();
        state.segments.insert(number, segment.clone());
        segment
    }
}

/// Appends the bytes of `range` in `pieces`, which are fewer where these end.
fn cut(pieces: &[Bytes], range: Range<u64>, into: &mut Pieces) {
    let mut start = 0;
    for piece in pieces {
        let end = start + piece.len() as u64;
        let (from, to) = (range.start.clamp(start, end), range.end.clamp(start, end));
        if from < to {
            into.push(piece.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_cut_is_what_lies_there(
            lengths in prop::collection::vec(1_usize..50, 0..10), from in 0_u64..300, length in 0_u64..300,
        ) {
            let whole: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|byte| byte as u8).collect();
            let (mut pieces, mut rest) = (Vec::new(), Bytes::from(whole.clone()));
            lengths.iter().for_each(|length| pieces.push(rest.split_to(*length)));
            let mut found = Pieces::new();
            cut(&pieces, from..from + length, &mut found);
            prop_assert!(found.iter().all(|piece| !piece.is_empty()));
            let end = whole.len();
            let expected = &whole[(from as usize).min(end)..((from + length) as usize).min(end)];
            prop_assert_eq!(found.concat(), expected);
        }
    }
}
