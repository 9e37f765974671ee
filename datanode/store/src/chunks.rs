//! Takes packets and gives large pieces to write: verification, overlaps, and the checksums of partial chunks.
//!
//! Pure: no file is touched here. The chunk that the replica ends in is kept in memory, so that its checksum can be made
//! anew when more bytes come, and so that a rewrite of it can be compared.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec};

use crate::{MAX_REPLICA_BYTES, StoreError, StoreResult};

/// Bytes are written in multiples of this: page caches then use large folios.
pub(crate) const PIECE_BYTES: u64 = 256 << 10;

/// The end of a replica: what is received but not written yet.
pub(crate) struct Chunks {
    id: BlockId,
    spec: ChecksumSpec,
    received: u64,
    flushed: u64,
    /// Bytes from `flushed` to `received`, as they came.
    data: VecDeque<Bytes>,
    /// Checksums from chunk `first_sum` to the last one, a partial one included.
    sums: Vec<u8>,
    first_sum: u64,
    /// The bytes of the chunk that `received` lies in.
    partial: Vec<u8>,
}

/// What to write now.
pub(crate) struct Piece<'a> {
    /// One after the other, never none.
    pub(crate) data: Vec<&'a [u8]>,
    pub(crate) data_offset: u64,
    /// Offset behind the data.
    pub(crate) data_end: u64,
    pub(crate) checksums: &'a [u8],
    /// Offset behind the checksum file's header.
    pub(crate) checksums_offset: u64,
}

impl Chunks {
    /// An end at `len` bytes, all written. If that is inside a chunk, [`Self::resume`] must follow.
    pub(crate) fn new(id: BlockId, spec: ChecksumSpec, len: u64) -> Self {
        let first_sum = len / u64::from(spec.bytes_per_checksum);
        Self {
            id,
            spec,
            received: len,
            flushed: len,
            data: VecDeque::new(),
            sums: Vec::new(),
            first_sum,
            partial: Vec::new(),
        }
    }

    /// Tells the bytes of the partial chunk at the end.
    pub(crate) fn resume(&mut self, partial: Vec<u8>) {
        debug_assert_eq!(partial.len() as u64, self.received % self.chunk());
        self.sums.clear();
        if !partial.is_empty() && self.spec.kind != ChecksumKind::Null {
            self.sums.extend_from_slice(&self.spec.kind.of(&partial).to_be_bytes());
        }
        self.partial = partial;
    }

    /// Bytes under one checksum.
    pub(crate) fn chunk(&self) -> u64 {
        u64::from(self.spec.bytes_per_checksum)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    fn refuse<T>(&self, why: impl Into<String>) -> StoreResult<T> {
        Err(StoreError::Packet { block: self.id, why: why.into() })
    }

    /// Takes a packet whose checksums are of kind `kind`; gives the bytes received so far. Nothing changes on an error.
    /// `verified`: what the caller has compared the data with its checksums as, if it has; they are not compared twice.
    pub(crate) fn accept(
        &mut self,
        kind: ChecksumKind,
        offset: u64,
        mut data: Bytes,
        sums: &[u8],
        verified: Option<ChecksumSpec>,
    ) -> StoreResult<u64> {
        let end = match offset.checked_add(data.len() as u64) {
            Some(end) if end <= MAX_REPLICA_BYTES => end,
            _ => return self.refuse(format!("it ends past the longest block of {MAX_REPLICA_BYTES} bytes")),
        };
        if offset > self.received {
            return self
                .refuse(format!("it begins at {offset}, only {} bytes were received before", self.received));
        }
        let first = self.first_piece(offset, data.len());
        self.verify(kind, offset, &data, sums, first, verified)?;
        self.compare_overlap(offset, &data)?;
        if end <= self.received {
            return Ok(self.received);
        }
        let skipped = (self.received - offset) as usize;
        data.advance(skipped);
        self.extend(kind, offset, data, sums, first);
        Ok(self.received)
    }

    /// Bytes of a packet up to the first chunk boundary: its first checksum covers them, wherever the packet begins.
    fn first_piece(&self, offset: u64, len: usize) -> usize {
        let to_boundary = self.chunk() - offset % self.chunk();
        len.min(usize::try_from(to_boundary).unwrap_or(usize::MAX))
    }

    fn verify(
        &self,
        kind: ChecksumKind,
        offset: u64,
        data: &[u8],
        sums: &[u8],
        first: usize,
        verified: Option<ChecksumSpec>,
    ) -> StoreResult<()> {
        let packet = ChecksumSpec { kind, bytes_per_checksum: self.spec.bytes_per_checksum };
        let (head, tail) = data.split_at(first);
        let head_sums = packet.checksum_bytes(head.len() as u64) as usize;
        let wanted = head_sums as u64 + packet.checksum_bytes(tail.len() as u64);
        if sums.len() as u64 != wanted {
            return self.refuse(format!("{} bytes of checksums where {wanted} belong", sums.len()));
        }
        if verified == Some(packet) {
            return Ok(());
        }
        let bad = |at: usize| StoreError::Checksum { block: self.id, offset: offset + at as u64 };
        packet.verify(head, &sums[..head_sums]).map_err(bad)?;
        packet.verify(tail, &sums[head_sums..]).map_err(|at| bad(first + at))
    }

    /// A packet may begin before the end, but what it repeats of the last chunk must be what is there. Older bytes stay as
    /// they are, with their checksums.
    fn compare_overlap(&self, offset: u64, data: &[u8]) -> StoreResult<()> {
        let chunk_start = self.received - self.partial.len() as u64;
        let from = offset.max(chunk_start);
        let to = (offset + data.len() as u64).min(self.received);
        if from >= to {
            return Ok(());
        }
        let here = &self.partial[(from - chunk_start) as usize..(to - chunk_start) as usize];
        let sent = &data[(from - offset) as usize..(to - offset) as usize];
        if here == sent {
            Ok(())
        } else {
            self.refuse(format!("it changes bytes from {from} that were received before"))
        }
    }

    /// Appends bytes that are new. `sums` are the packet's, whose first covers `first` bytes from `offset`.
    fn extend(&mut self, kind: ChecksumKind, offset: u64, fresh: Bytes, sums: &[u8], first: usize) {
        let chunk = self.chunk() as usize;
        self.data.push_back(fresh.clone());
        let mut rest = &fresh[..];
        if !self.partial.is_empty() {
            let (fill, after) = rest.split_at(rest.len().min(chunk - self.partial.len()));
            self.partial.extend_from_slice(fill);
            self.replace_last_sum();
            rest = after;
        }
        self.received += (fresh.len() - rest.len()) as u64;
        if self.partial.len() == chunk {
            self.partial.clear();
        }
        if rest.is_empty() {
            return;
        }
        // Here `received` is a chunk's start, so the packet's own checksums fit, unless its first piece was cut short.
        let from_packet = (self.received - offset) as usize;
        let index = if from_packet == 0 { 0 } else { 1 + (from_packet - first) / chunk };
        if kind == self.spec.kind {
            self.sums.extend_from_slice(&sums[index * kind.size()..]);
        } else {
            self.spec.append_checksums(rest, &mut self.sums);
        }
        self.partial.extend_from_slice(&rest[rest.len() - rest.len() % chunk..]);
        self.received += rest.len() as u64;
    }

    fn replace_last_sum(&mut self) {
        if self.spec.kind == ChecksumKind::Null {
            return;
        }
        self.sums.truncate(self.sums.len() - self.spec.kind.size());
        self.sums.extend_from_slice(&self.spec.kind.of(&self.partial).to_be_bytes());
    }

    /// What to write: everything, or as many whole pieces as there are. None if nothing.
    pub(crate) fn piece(&self, all: bool) -> Option<Piece<'_>> {
        let unit = PIECE_BYTES.next_multiple_of(self.chunk());
        let to = if all { self.received } else { self.received - self.received % unit };
        if to <= self.flushed {
            return None;
        }
        let size = self.spec.kind.size() as u64;
        Some(Piece {
            data: self.front(to - self.flushed),
            data_offset: self.flushed,
            data_end: to,
            checksums: &self.sums,
            checksums_offset: self.first_sum * size,
        })
    }

    /// The first `length` bytes that are not written.
    fn front(&self, length: u64) -> Vec<&[u8]> {
        let (mut slices, mut left) = (Vec::with_capacity(self.data.len()), length as usize);
        for bytes in &self.data {
            let taken = bytes.len().min(left);
            if taken == 0 {
                break;
            }
            slices.push(&bytes[..taken]);
            left -= taken;
        }
        slices
    }

    /// Notes that everything up to `to`, and all checksums, were written.
    pub(crate) fn flushed(&mut self, to: u64) {
        let mut left = (to - self.flushed) as usize;
        while let Some(front) = self.data.front_mut() {
            if front.len() > left {
                front.advance(left);
                break;
            }
            left -= front.len();
            self.data.pop_front();
        }
        self.flushed = to;
        let keep = if self.partial.is_empty() { 0 } else { self.spec.kind.size() };
        self.sums.drain(..self.sums.len() - keep);
        self.first_sum = self.received / self.chunk();
    }

    /// The checksum of the chunk that `at` (written up to there) lies in; none at a chunk's start.
    pub(crate) fn last_checksum_at(&self, at: u64) -> Option<[u8; 4]> {
        if at != self.received || self.partial.is_empty() || self.spec.kind == ChecksumKind::Null {
            return None;
        }
        Some(self.spec.kind.of(&self.partial).to_be_bytes())
    }
}
