//! Reading a file: what is read in order comes from a stream, which fetches ahead.
//!
//! Whoever reads on where the reads before ended is given a stream: one request to a datanode for the rest of each block, and
//! the next block's while the reader is busy with what came. A read that goes elsewhere ends it, and so does a pause; reads here
//! and there ask for exactly what they want.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steadfs_client::{FsResult, PulledStream, Reader};
use tokio::sync::Mutex as AsyncMutex;

use super::locals::{LocalBlocks, Locals};
use crate::budget::{Budget, Share};

/// What a stream takes of memory: what is being received, what was read past, and what is handed on.
const STREAM: usize = 4 << 20;
/// A read this far from where the last one ended still belongs to the same pass: the kernel's requests overtake each
/// other. So far back what nobody has asked for yet is kept for those.
const REACH: u64 = 2 << 20;
/// Reads that went on where others ended, in a row, before there is a stream: a first read may be the only one.
const IN_ORDER: u32 = 2;
/// A stream that was not used for so long is given up, with its connection and its memory.
const IDLE: Duration = Duration::from_secs(5);

/// Bytes that were read, in pieces that are never copied together.
pub(crate) type Pieces = Vec<Bytes>;

/// One open file that is read.
pub(crate) struct Window {
    reader: Reader,
    locals: LocalBlocks,
    budget: Budget,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Where the read that came farthest in this pass ended.
    next: u64,
    /// Reads that went on from there, in a row.
    streak: u32,
    stream: Option<Arc<Stream>>,
    /// Counts the uses of streams.
    used: u64,
    /// Whether somebody looks from time to time whether the stream is still used.
    watched: bool,
}

/// A file that is read in order, and its share of the budget.
struct Stream {
    flow: AsyncMutex<Flow>,
    _share: Share,
}

struct Flow {
    source: PulledStream,
    /// What came and nobody has read yet: where each piece begins, and the piece.
    held: VecDeque<(u64, Bytes)>,
}

impl Window {
    pub(crate) fn new(reader: Reader, budget: Budget, locals: &Locals) -> Self {
        Self { reader, locals: LocalBlocks::new(locals), budget, state: Arc::default() }
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
        let in_order = self.state.lock().goes_on(&range);
        let Some(parts) = self.locals.parts(&self.reader, &range, in_order).await? else {
            return self.network(range, in_order).await;
        };
        if parts.iter().all(|part| part.is_here()) {
            self.state.lock().stream = None;
        }
        let mut pieces = Pieces::new();
        for part in parts {
            match self.locals.read(&part).await {
                Some(bytes) => pieces.push(bytes),
                None => pieces.extend(self.network(part.range, in_order).await?),
            }
        }
        Ok(pieces)
    }

    async fn network(&self, range: Range<u64>, in_order: bool) -> FsResult<Pieces> {
        if in_order && let Some(stream) = self.stream(range.start) {
            match stream.flow.lock().await.read(&range).await {
                Ok(Given::Bytes(pieces)) => return Ok(pieces),
                Ok(Given::Behind) => {}
                // The next read begins another one; this one asks by itself, so that it has its own tries and its own error.
                Ok(Given::Ahead) | Err(_) => self.end(&stream),
            }
        }
        self.reader.read_pieces(range.start, (range.end - range.start) as usize).await
    }

    /// The stream, which begins at `start` if there is none yet; none without memory for one.
    fn stream(&self, start: u64) -> Option<Arc<Stream>> {
        let mut state = self.state.lock();
        state.used += 1;
        if let Some(stream) = &state.stream {
            return Some(stream.clone());
        }
        let share = self.budget.try_take_all_of(STREAM)?;
        let source = self.reader.pull_from(start);
        let flow = AsyncMutex::new(Flow { source, held: VecDeque::new() });
        let stream = Arc::new(Stream { flow, _share: share });
        state.stream = Some(stream.clone());
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(watch(Arc::downgrade(&self.state)));
        }
        Some(stream)
    }

    fn end(&self, ended: &Arc<Stream>) {
        let mut state = self.state.lock();
        if state.stream.as_ref().is_some_and(|stream| Arc::ptr_eq(stream, ended)) {
            state.stream = None;
        }
    }
}

/// Gives a stream up that is not used any more.
async fn watch(state: Weak<Mutex<State>>) {
    let mut before = None;
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = state.lock();
        if before == Some(state.used) {
            state.stream = None;
        }
        before = Some(state.used);
        if state.stream.is_none() {
            state.watched = false;
            return;
        }
    }
}

impl State {
    /// Notes a read; whether it goes on where others before it ended.
    fn goes_on(&mut self, range: &Range<u64>) -> bool {
        if range.start.abs_diff(self.next) > REACH {
            // What was fetched ahead is for nobody.
            (self.next, self.streak, self.stream) = (range.end, 1, None);
            return false;
        }
        if range.end > self.next {
            (self.next, self.streak) = (range.end, self.streak.saturating_add(1));
        }
        self.streak >= IN_ORDER
    }
}

/// What a stream has of a range.
enum Given {
    Bytes(Pieces),
    /// It was read before, or lies before the stream.
    Behind,
    /// It lies so far ahead that what is between would be fetched for nobody.
    Ahead,
}

impl Flow {
    async fn read(&mut self, range: &Range<u64>) -> FsResult<Given> {
        if range.start.saturating_sub(self.source.position()) > REACH {
            return Ok(Given::Ahead);
        }
        while self.source.position() < range.end {
            let start = self.source.position();
            match self.source.next_chunk().await? {
                Some(bytes) => self.held.push_back((start, bytes)),
                None => break,
            }
        }
        let position = self.source.position();
        let pieces = cut(&self.held, range);
        let found: usize = pieces.iter().map(Bytes::len).sum();
        if (found as u64) < range.end.min(position).saturating_sub(range.start) {
            return Ok(Given::Behind);
        }
        // The kernel keeps what it was given: nobody asks for it again.
        let keeps = position.saturating_sub(REACH);
        self.held.retain(|(start, bytes)| {
            let end = start + bytes.len() as u64;
            end > keeps && (*start < range.start || end > range.end)
        });
        Ok(Given::Bytes(pieces))
    }
}

/// The bytes of `range` in pieces that lie one behind the other, fewer where these end.
fn cut(held: &VecDeque<(u64, Bytes)>, range: &Range<u64>) -> Pieces {
    let parts = held.iter().filter_map(|(start, bytes)| {
        let end = start + bytes.len() as u64;
        let (from, to) = (range.start.clamp(*start, end), range.end.clamp(*start, end));
        (from < to).then(|| bytes.slice((from - start) as usize..(to - start) as usize))
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_reads_on_is_given_a_stream_and_who_goes_elsewhere_loses_it() {
        const PIECE: u64 = 1 << 20;
        let mut state = State::default();
        let mut reads = |start: u64| state.goes_on(&(start * PIECE..(start + 1) * PIECE));
        // The second read overtook the first, as others do later.
        assert!(!reads(1) && !reads(0));
        assert!(reads(2) && reads(4) && reads(3));
        assert!(!reads(100) && !reads(7));
        assert!(reads(8));
    }

    proptest! {
        #[test]
        fn what_is_cut_is_what_lies_there(
            lengths in prop::collection::vec(1_usize..50, 0..10), first in 0_u64..1_000, from in 0_u64..300, length in 0_u64..300,
        ) {
            let whole: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|byte| byte as u8).collect();
            let (mut held, mut rest) = (VecDeque::new(), Bytes::from(whole.clone()));
            for length in lengths {
                held.push_back((first + (whole.len() - rest.len()) as u64, rest.split_to(length)));
            }
            let found = cut(&held, &(first + from..first + from + length));
            prop_assert!(found.iter().all(|piece| !piece.is_empty()));
            let end = whole.len();
            let expected = &whole[(from as usize).min(end)..((from + length) as usize).min(end)];
            prop_assert_eq!(found.concat(), expected);
        }
    }
}
