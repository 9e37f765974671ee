//! A writer and its readers against a vector of bytes.

use proptest::prelude::*;
use steadfs_common::{ChecksumKind, ChecksumSpec, GenStamp};
use steadfs_datanode_store::{CreateOptions, ReplicaState, ReplicaWriter};

use crate::fixture::*;

#[derive(Clone, Debug)]
enum Step {
    /// A packet of new bytes, from the end or from the start of the last chunk.
    Write {
        len: u32,
        resend_chunk: bool,
    },
    /// A packet that was received before.
    Repeat {
        back: u32,
    },
    BadChecksum {
        len: u32,
    },
    OtherBytes,
    Gap,
    Flush,
    Sync,
    Ack {
        part: u8,
    },
    Read {
        from: u32,
        to: u32,
    },
    /// The pipeline breaks and goes on from the acknowledged bytes.
    TakeOver {
        kind: ChecksumKind,
    },
    /// The replica is closed and opened to append.
    Reopen {
        kind: ChecksumKind,
    },
}

fn kind() -> impl Strategy<Value = ChecksumKind> {
    prop_oneof![Just(ChecksumKind::Null), Just(ChecksumKind::Crc32), Just(ChecksumKind::Crc32c)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (prop_oneof![1_u32..40, 1_u32..5_000, 100_000_u32..300_000], any::<bool>())
            .prop_map(|(len, resend_chunk)| Step::Write { len, resend_chunk }),
        2 => (0_u32..3_000).prop_map(|back| Step::Repeat { back }),
        1 => (1_u32..2_000).prop_map(|len| Step::BadChecksum { len }),
        1 => Just(Step::OtherBytes),
        1 => Just(Step::Gap),
        1 => Just(Step::Flush),
        1 => Just(Step::Sync),
        3 => any::<u8>().prop_map(|part| Step::Ack { part }),
        4 => (any::<u32>(), any::<u32>()).prop_map(|(from, to)| Step::Read { from, to }),
        1 => kind().prop_map(|kind| Step::TakeOver { kind }),
        1 => kind().prop_map(|kind| Step::Reopen { kind }),
    ]
}

struct Model {
    fixture: Fixture,
    writer: ReplicaWriter,
    packets: ChecksumKind,
    stored: ChecksumSpec,
    data: Vec<u8>,
    acked: usize,
    stamp: GenStamp,
}

impl Model {
    fn new(stored: ChecksumSpec) -> Self {
        let fixture = Fixture::new(1);
        let options = CreateOptions { spec: stored, ..create(ID, G1) };
        let writer = fixture.store().create_rbw(options).unwrap();
        Self { fixture, writer, packets: stored.kind, stored, data: Vec::new(), acked: 0, stamp: G1 }
    }

    fn send(&self, offset: usize, data: &[u8]) -> steadfs_datanode_store::StoreResult<u64> {
        let sums = sums(self.packets, self.stored.bytes_per_checksum, offset as u64, data);
        self.writer.write(offset as u64, data, &sums)
    }

    fn chunk_start(&self) -> usize {
        self.data.len() - self.data.len() % self.stored.bytes_per_checksum as usize
    }

    fn step(&mut self, number: usize, step: &Step) {
        let received = self.data.len();
        match *step {
            Step::Write { len, resend_chunk } => {
                let from = if resend_chunk { self.chunk_start() } else { received };
                self.data.extend(bytes(number as u64, len as usize));
                assert_eq!(self.send(from, &self.data[from..]).unwrap(), self.data.len() as u64);
            }
            Step::Repeat { back } => {
                let from = received.saturating_sub(back as usize);
                let from = from - from % self.stored.bytes_per_checksum as usize;
                assert_eq!(self.send(from, &self.data[from..]).unwrap(), received as u64);
            }
            Step::BadChecksum { len } => {
                let data = bytes(7, len as usize);
                let mut sums = sums(self.packets, self.stored.bytes_per_checksum, received as u64, &data);
                match sums.last_mut() {
                    Some(byte) => *byte ^= 0x10,
                    None => sums.push(0),
                }
                assert!(self.writer.write(received as u64, &data, &sums).is_err());
            }
            Step::OtherBytes => {
                let from = self.chunk_start();
                if from < received {
                    let mut data = self.data[from..].to_vec();
                    data[0] ^= 1;
                    data.push(1);
                    assert!(self.send(from, &data).is_err());
                }
            }
            Step::Gap => assert!(self.send(received + 1, b"x").is_err()),
            Step::Flush => self.writer.flush().unwrap(),
            Step::Sync => self.writer.sync().unwrap(),
            Step::Ack { part } => {
                self.acked = self.acked.max(received * usize::from(part) / 255);
                self.writer.set_acked(self.acked as u64);
            }
            Step::Read { from, to } => self.read(from, to),
            Step::TakeOver { kind } => self.take_over(kind),
            Step::Reopen { kind } => self.reopen(kind),
        }
        assert_eq!(self.writer.block().len, self.data.len() as u64);
        assert_eq!(self.fixture.store().visible_length(ID, self.stamp).unwrap(), self.acked as u64);
    }

    fn read(&self, from: u32, to: u32) {
        let reader = self.fixture.store().open_for_read(ID, self.stamp).unwrap();
        assert_eq!(reader.block().len, self.acked as u64);
        let (a, b) = (from as usize % (self.acked + 1), to as usize % (self.acked + 1));
        let (from, to) = (a.min(b), a.max(b));
        assert_eq!(read(&reader, from as u64, to as u64), self.data[from..to]);
        reader.verify(0, u64::MAX).unwrap();
    }

    fn take_over(&mut self, kind: ChecksumKind) {
        let (old, len) = (block(ID, self.stamp, 0), self.data.len() as u64);
        self.stamp = self.stamp.next();
        let requested = ChecksumSpec { kind, ..self.stored };
        let acked = self.acked as u64;
        self.writer = self.fixture.store().recover_rbw(old, self.stamp, acked, len, requested).unwrap();
        self.packets = kind;
        self.data.truncate(self.acked);
    }

    fn reopen(&mut self, kind: ChecksumKind) {
        let old = self.writer.finalize().unwrap();
        self.check_files();
        self.stamp = self.stamp.next();
        let requested = ChecksumSpec { kind, ..self.stored };
        self.writer = self.fixture.store().append(old, self.stamp, requested).unwrap();
        self.packets = kind;
        self.acked = self.data.len();
    }

    fn check_files(&self) {
        assert_eq!(self.fixture.store().status(ID).unwrap().state, ReplicaState::Finalized);
        let meta = self.fixture.file(&format!("blk_{}_{}.meta", ID.0, self.stamp.0));
        assert!(std::fs::read(self.fixture.file(&format!("blk_{}", ID.0))).unwrap() == self.data);
        let expected = sums(self.stored.kind, self.stored.bytes_per_checksum, 0, &self.data);
        assert!(std::fs::read(meta).unwrap()[7..] == expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn a_writer_and_its_readers_agree_with_a_vector(
        kind in kind(),
        chunk in prop_oneof![Just(512_u32), Just(16), Just(700), Just(65_536)],
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut model = Model::new(ChecksumSpec { kind, bytes_per_checksum: chunk });
        for (number, step) in steps.iter().enumerate() {
            model.step(number, step);
        }
        model.writer.finalize().unwrap();
        model.check_files();
    }
}
