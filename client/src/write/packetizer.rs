//! Cuts a stream of bytes into the packets of a block.

use bytes::{Buf, Bytes, BytesMut};
use steadfs_common::{ChecksumKind, ChecksumSpec};

/// A piece of a block, ready to be sent: data with its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the block it begins, in bytes.
    pub(crate) offset: u64,
    /// The data; never empty.
    pub(crate) data: Bytes,
    /// One checksum a chunk, big-endian.
    pub(crate) checksums: Bytes,
}

impl Piece {
    /// The block's bytes before the piece's end.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// Cuts the bytes of one block. Pieces begin at chunk bounds and hold whole chunks, with two exceptions that the
/// protocol knows: where an append begins inside a chunk, the first piece fills that chunk and its checksum covers the
/// new bytes only; and a flush sends the unfinished chunk, which the next piece then sends again from its start.
pub(crate) struct Packetizer {
    checksum: ChecksumSpec,
    packet_data: usize,
    block_size: u64,
    /// Where in the block `pending` begins.
    start: u64,
    pending: BytesMut,
    /// Bytes at the front of `pending` that a flush has sent already.
    sent: usize,
}

impl Packetizer {
    /// For a block that has `start` bytes. `packet_data` is the data of a full packet in bytes, a multiple of the chunk.
    pub(crate) fn new(checksum: ChecksumSpec, packet_data: usize, block_size: u64, start: u64) -> Self {
        Self { checksum, packet_data, block_size, start, pending: BytesMut::new(), sent: 0 }
    }

    /// Bytes of the block so far, those not yet sent included.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.start + self.pending.len() as u64
    }

    /// Whether the block takes no more.
    pub(crate) fn is_full(&self) -> bool {
        self.block_bytes() >= self.block_size
    }

    /// Takes as much of `data` as the current piece and the block have room for; gives the piece once it is full.
    pub(crate) fn push(&mut self, data: &mut Bytes) -> Option<Piece> {
        let limit = self.piece_limit();
        let room = limit - self.pending.len();
        if self.pending.is_empty() && data.len() >= limit && limit > 0 {
            // The usual case of large writes: nothing is copied.
            let data = data.split_to(limit);
            return Some(self.cut(data, 0));
        }
        let taken = room.min(data.len());
        self.pending.extend_from_slice(&data[..taken]);
        data.advance(taken);
        if self.pending.len() < limit || self.pending.len() == self.sent {
            return None;
        }
        let data = self.pending.split().freeze();
        Some(self.cut(data, 0))
    }

    /// What has not been sent, if anything; an unfinished chunk stays to be sent again with what follows.
    pub(crate) fn flush(&mut self) -> Option<Piece> {
        if self.pending.len() == self.sent {
            return None;
        }
        let chunk = self.checksum.bytes_per_checksum as usize;
        let kept = match self.start % chunk as u64 {
            0 => self.pending.len() % chunk,
            // The chunk that an append began in; full, it would have been cut.
            _ => self.pending.len(),
        };
        let data = self.pending.split().freeze();
        let tail = data.slice(data.len() - kept..);
        let piece = self.cut(data, kept);
        self.pending.extend_from_slice(&tail);
        self.sent = kept;
        Some(piece)
    }

    fn cut(&mut self, data: Bytes, kept: usize) -> Piece {
        let mut checksums = Vec::new();
        if self.start.is_multiple_of(u64::from(self.checksum.bytes_per_checksum)) {
            self.checksum.append_checksums(&data, &mut checksums);
        } else if self.checksum.kind != ChecksumKind::Null {
            checksums.extend_from_slice(&self.checksum.kind.of(&data).to_be_bytes());
        }
        let piece = Piece { offset: self.start, checksums: checksums.into(), data };
        self.start = piece.end() - kept as u64;
        self.sent = 0;
        piece
    }

    /// Bytes of the piece that begins at `start`.
    fn piece_limit(&self) -> usize {
        let chunk = u64::from(self.checksum.bytes_per_checksum);
        let wanted = match self.start % chunk {
            0 => self.packet_data as u64,
            inside => chunk - inside,
        };
        wanted.min(self.block_size.saturating_sub(self.start)) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: ChecksumSpec = ChecksumSpec::DEFAULT;

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|index| (index * 31 % 251) as u8).collect()
    }

    /// What a datanode does: checks each piece and writes it where it belongs.
    struct Replica {
        data: Vec<u8>,
        initial: u64,
        spec: ChecksumSpec,
    }

    impl Replica {
        fn take(&mut self, piece: &Piece) {
            assert!(!piece.data.is_empty());
            let chunk = u64::from(self.spec.bytes_per_checksum);
            assert!(piece.offset.is_multiple_of(chunk) || piece.offset == self.initial, "{}", piece.offset);
            let at = piece.offset as usize;
            assert!(at <= self.data.len(), "a gap");
            let overlap = self.data.len() - at;
            assert!(overlap < piece.data.len() && overlap < chunk as usize, "nothing new, or too much again");
            assert_eq!(self.data[at..], piece.data[..overlap], "other bytes the second time");
            if piece.offset.is_multiple_of(chunk) {
                self.spec.verify(&piece.data, &piece.checksums).unwrap();
            } else {
                assert!(piece.end() <= piece.offset.next_multiple_of(chunk));
                assert_eq!(piece.checksums, &self.spec.kind.of(&piece.data).to_be_bytes()[..]);
            }
            self.data.truncate(at);
            self.data.extend_from_slice(&piece.data);
        }
    }

    #[test]
    fn a_flush_sends_the_unfinished_chunk_and_the_next_piece_sends_it_again() {
        let mut cutter = Packetizer::new(SPEC, 64_512, 1 << 20, 0);
        let mut data = bytes(900);
        assert_eq!(cutter.push(&mut data.split_to(700)), None);
        let first = cutter.flush().unwrap();
        assert_eq!((first.offset, first.data.len(), first.checksums.len()), (0, 700, 8));
        assert_eq!(cutter.flush(), None);
        assert_eq!(cutter.push(&mut data), None);
        let second = cutter.flush().unwrap();
        assert_eq!((second.offset, second.data.len()), (512, 388));
    }

    #[test]
    fn an_append_into_a_chunk_fills_it_first() {
        let mut cutter = Packetizer::new(SPEC, 1_024, 1 << 20, 700);
        let mut data = bytes(1_000);
        let first = cutter.push(&mut data).unwrap();
        assert_eq!((first.offset, first.data.len(), first.checksums.len()), (700, 324, 4));
        assert_eq!(cutter.push(&mut data), None);
        let second = cutter.flush().unwrap();
        assert_eq!((second.offset, second.data.len()), (1_024, 676));
    }

    #[test]
    fn a_block_ends_where_it_is_full() {
        let mut cutter = Packetizer::new(SPEC, 1_024, 1_300, 0);
        let mut data = bytes(2_000);
        assert_eq!(cutter.push(&mut data).unwrap().data.len(), 1_024);
        assert!(!cutter.is_full());
        assert_eq!(cutter.push(&mut data).unwrap().data.len(), 276);
        assert!(cutter.is_full());
        assert_eq!((cutter.push(&mut data), data.len()), (None, 700));
        assert_eq!(cutter.flush(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![3 => (0_usize..3_000).prop_map(Step::Write), 1 => Just(Step::Flush)],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn whatever_is_written_and_flushed_arrives(
            steps in steps(), chunk in 1_u32..700, chunks in 1_usize..5, initial in 0_usize..2_000, null in any::<bool>(),
        ) {
            let kind = if null { ChecksumKind::Null } else { ChecksumKind::Crc32c };
            let spec = ChecksumSpec { kind, bytes_per_checksum: chunk };
            let source = bytes(initial + 60_000);
            let block_size = initial as u64 + 20_000;
            let mut replica = Replica { data: source[..initial].to_vec(), initial: initial as u64, spec };
            replica.spec.kind = if null { ChecksumKind::Null } else { ChecksumKind::Crc32c };
            let mut cutter = Packetizer::new(spec, chunk as usize * chunks, block_size, initial as u64);
            let mut written = initial;
            for step in steps {
                match step {
                    Step::Write(len) => {
                        let mut data = source.slice(written..written + len);
                        while !data.is_empty() && !cutter.is_full() {
                            if let Some(piece) = cutter.push(&mut data) {
                                take(&mut replica, &piece, null)?;
                            }
                        }
                        written += len - data.len();
                    }
                    Step::Flush => {
                        if let Some(piece) = cutter.flush() {
                            take(&mut replica, &piece, null)?;
                        }
                        prop_assert_eq!(replica.data.len(), written);
                    }
                }
                prop_assert_eq!(cutter.block_bytes(), written as u64);
            }
            if let Some(piece) = cutter.flush() {
                take(&mut replica, &piece, null)?;
            }
            prop_assert_eq!(&replica.data[..], &source[..written]);
        }
    }

    fn take(replica: &mut Replica, piece: &Piece, null: bool) -> Result<(), TestCaseError> {
        if null {
            prop_assert!(piece.checksums.is_empty());
            let at = piece.offset as usize;
            prop_assert!(at <= replica.data.len());
            replica.data.truncate(at);
            replica.data.extend_from_slice(&piece.data);
        } else {
            replica.take(piece);
        }
        Ok(())
    }
}
