//! Answers.

use std::io::IoSlice;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileType, FopenFlags};

use super::ANSWER_HEADER;
use crate::device::Device;

/// Bytes of a name in a listing before the name, and what its end is rounded up to.
const FOLDER_ENTRY: usize = 24;
const ALIGNED: usize = 8;
/// Pieces of an answer that one call hands over at most: the system takes 1,024.
const MAX_PIECES: usize = 512;
/// Bytes of an entry with its attributes.
const ENTRY: usize = 128;

/// The answer that a request waits for. Dropped without one, it is EIO: a program must not wait for ever.
pub(crate) struct Reply {
    device: Device,
    /// 0 once it was given.
    number: u64,
}

/// What a name means, and how long that may be relied on.
pub(crate) struct Found<'a> {
    /// None: nothing is there, and that may be remembered.
    pub(crate) attributes: Option<&'a FileAttr>,
    /// The number by which the kernel shall know it.
    pub(crate) node: u64,
    pub(crate) lasts: Duration,
}

/// An open file.
pub(crate) struct OpenAnswer {
    pub(crate) handle: u64,
    pub(crate) flags: FopenFlags,
    /// The kernel's number of the local file that it reads, if it does.
    pub(crate) backing: Option<u32>,
}

/// What a test of a lock found in the way.
pub(crate) struct LockFound {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) exclusive: bool,
    pub(crate) process: u32,
}

/// Room of the file system, in units of `unit` bytes.
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) files: u64,
    pub(crate) unit: u32,
    pub(crate) longest_name: u32,
}

impl Reply {
    pub(super) const fn new(device: Device, number: u64) -> Self {
        Self { device, number }
    }

    pub(crate) fn ok(self) {
        self.send(0, &[]);
    }

    /// Nobody waits for an answer.
    pub(crate) fn needless(mut self) {
        self.number = 0;
    }

    pub(crate) fn error(self, errno: Errno) {
        self.send(errno.code(), &[]);
    }

    pub(crate) fn data(self, bytes: &[u8]) {
        self.send(0, bytes);
    }

    /// Data in pieces, which one call hands over.
    pub(crate) fn pieces(mut self, pieces: &[Bytes]) {
        if pieces.len() > MAX_PIECES {
            return self.write(0, &[&pieces.concat()]);
        }
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        self.write(0, &pieces);
    }

    pub(crate) fn entry(self, found: &Found<'_>) {
        let mut out = Out::default();
        out.entry(found);
        self.send(0, &out.0);
    }

    pub(crate) fn attributes(self, attributes: &FileAttr, lasts: Duration) {
        let mut out = Out::default();
        out.u64(lasts.as_secs());
        out.u32(lasts.subsec_nanos());
        out.u32(0);
        out.attributes(attributes);
        self.send(0, &out.0);
    }

    pub(crate) fn opened(self, open: &OpenAnswer) {
        let mut out = Out::default();
        out.open(open);
        self.send(0, &out.0);
    }

    pub(crate) fn created(self, found: &Found<'_>, open: &OpenAnswer) {
        let mut out = Out::default();
        out.entry(found);
        out.open(open);
        self.send(0, &out.0);
    }

    pub(crate) fn written(self, bytes: u32) {
        self.number_of_bytes(bytes);
    }

    /// An attribute's value or length; `asked` is how many bytes the program has room for, 0 to ask for the length alone.
    pub(crate) fn attribute(self, value: &[u8], asked: u32) {
        if asked == 0 {
            self.number_of_bytes(u32::try_from(value.len()).unwrap_or(u32::MAX));
        } else if value.len() > asked as usize {
            self.error(Errno::ERANGE);
        } else {
            self.data(value);
        }
    }

    fn number_of_bytes(self, bytes: u32) {
        let mut out = Out::default();
        out.u32(bytes);
        out.u32(0);
        self.send(0, &out.0);
    }

    pub(crate) fn space(self, space: &Space) {
        let mut out = Out::default();
        out.all_u64([space.total, space.free, space.free, space.files, space.files]);
        out.all_u32([space.unit, space.longest_name, space.unit, 0]);
        out.0.extend_from_slice(&[0; 24]);
        self.send(0, &out.0);
    }

    /// What is in the way of a lock; none: nothing.
    pub(crate) fn lock(self, found: Option<&LockFound>) {
        const NONE: u32 = 2;
        let mut out = Out::default();
        let (first, last) = found.map_or((0, 0), |found| (found.first, found.last));
        out.u64(first);
        out.u64(last);
        out.u32(found.map_or(NONE, |found| u32::from(found.exclusive)));
        out.u32(found.map_or(0, |found| found.process));
        self.send(0, &out.0);
    }

    fn send(mut self, errno: i32, body: &[u8]) {
        self.write(errno, &[body]);
    }

    fn write(&mut self, errno: i32, body: &[&[u8]]) {
        let number = std::mem::take(&mut self.number);
        let mut header = [0; ANSWER_HEADER];
        let length = ANSWER_HEADER + body.iter().map(|piece| piece.len()).sum::<usize>();
        let length = u32::try_from(length).expect("answers are bounded by the kernel's requests");
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&(-errno).to_le_bytes());
        header[8..].copy_from_slice(&number.to_le_bytes());
        let mut parts = Vec::with_capacity(1 + body.len());
        parts.push(IoSlice::new(&header));
        parts.extend(body.iter().map(|piece| IoSlice::new(piece)));
        match self.device.write(&parts) {
            Ok(()) => {}
            // Nobody waits for it any more.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, errno, "an answer was not taken"),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.number != 0 {
            self.write(Errno::EIO.code(), &[]);
        }
    }
}

/// The bytes of an answer.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn all_u32<const N: usize>(&mut self, numbers: [u32; N]) {
        numbers.into_iter().for_each(|number| self.u32(number));
    }

    fn all_u64<const N: usize>(&mut self, numbers: [u64; N]) {
        numbers.into_iter().for_each(|number| self.u64(number));
    }

    fn entry(&mut self, found: &Found<'_>) {
        let Some(attributes) = found.attributes else {
            let start = self.0.len();
            self.0.resize(start + ENTRY, 0);
            self.0[start + 16..start + 24].copy_from_slice(&found.lasts.as_secs().to_le_bytes());
            self.0[start + 32..start + 36].copy_from_slice(&found.lasts.subsec_nanos().to_le_bytes());
            return;
        };
        // Number and generation; inode ids are never given out twice.
        self.u64(found.node);
        self.u64(0);
        // For the name, and for the attributes.
        self.u64(found.lasts.as_secs());
        self.u64(found.lasts.as_secs());
        self.u32(found.lasts.subsec_nanos());
        self.u32(found.lasts.subsec_nanos());
        self.attributes(attributes);
    }

    fn attributes(&mut self, attributes: &FileAttr) {
        let times = [attributes.atime, attributes.mtime, attributes.ctime].map(since_1970);
        self.all_u64([attributes.ino.0, attributes.size, attributes.blocks]);
        self.all_u64(times.map(|(seconds, _)| seconds.cast_unsigned()));
        self.all_u32(times.map(|(_, nanos)| nanos));
        let mode = kind_bits(attributes.kind) << 12 | u32::from(attributes.perm);
        let FileAttr { nlink, uid, gid, rdev, blksize, .. } = *attributes;
        self.all_u32([mode, nlink, uid, gid, rdev, blksize, 0]);
    }

    fn open(&mut self, open: &OpenAnswer) {
        self.u64(open.handle);
        let passed = if open.backing.is_some() { FopenFlags::FOPEN_PASSTHROUGH } else { FopenFlags::empty() };
        self.u32((open.flags | passed).bits());
        self.u32(open.backing.unwrap_or(0));
    }
}

/// Seconds, and nanoseconds behind them.
fn since_1970(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let whole = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (whole, 0),
                nanos => (whole - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

/// The kind of a file, as in a mode and in a listing.
const fn kind_bits(kind: FileType) -> u32 {
    match kind {
        FileType::Directory => 0o04,
        FileType::Symlink => 0o12,
        FileType::NamedPipe => 0o01,
        FileType::CharDevice => 0o02,
        FileType::BlockDevice => 0o06,
        FileType::Socket => 0o14,
        FileType::RegularFile => 0o10,
    }
}

/// The entries that answer a listing, as many as the kernel has room for.
pub(crate) struct FolderPage {
    out: Out,
    room: usize,
    with_attributes: bool,
}

impl FolderPage {
    pub(crate) fn new(room: u32, with_attributes: bool) -> Self {
        Self { out: Out::default(), room: room as usize, with_attributes }
    }

    /// Adds a name, behind which the listing goes on at `position`; false if there is no room.
    pub(crate) fn add(&mut self, name: &str, position: u64, found: &Found<'_>) -> bool {
        let Some(attributes) = found.attributes else { return true };
        let name = name.as_bytes();
        let long = if self.with_attributes { ENTRY } else { 0 };
        let length = long + (FOLDER_ENTRY + name.len()).next_multiple_of(ALIGNED);
        let end = self.out.0.len() + length;
        if end > self.room {
            return false;
        }
        if self.with_attributes {
            self.out.entry(found);
        }
        self.out.u64(attributes.ino.0);
        self.out.u64(position);
        self.out.u32(name.len() as u32);
        self.out.u32(kind_bits(attributes.kind));
        self.out.0.extend_from_slice(name);
        self.out.0.resize(end, 0);
        true
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use fuser::INodeNo;

    use super::*;

    fn attributes() -> FileAttr {
        FileAttr {
            ino: INodeNo(7),
            size: 5,
            blocks: 1,
            atime: UNIX_EPOCH - Duration::from_millis(1_500),
            mtime: UNIX_EPOCH + Duration::from_millis(2_500),
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o640,
            nlink: 1,
            uid: 3,
            gid: 4,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        }
    }

    fn sent(answer: impl FnOnce(Reply)) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        answer(Reply::new(Device::new(&file).unwrap(), 9));
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[..4], u32::try_from(bytes.len()).unwrap().to_le_bytes());
        assert_eq!(bytes[8..16], 9_u64.to_le_bytes());
        bytes
    }

    #[test]
    fn answers_have_the_lengths_that_the_kernel_wants() {
        let lasts = Duration::from_millis(1_250);
        assert_eq!(sent(Reply::ok).len(), 16);
        let found = attributes();
        assert_eq!(
            sent(|reply| reply.entry(&Found { attributes: Some(&found), node: 7, lasts })).len(),
            16 + 128
        );
        let absent = sent(|reply| reply.entry(&Found { attributes: None, node: 0, lasts }));
        assert_eq!((absent.len(), &absent[16..24]), (16 + 128, &[0; 8][..]));
        assert_eq!(absent[32..40], 1_u64.to_le_bytes());
        assert_eq!(absent[48..52], 250_000_000_u32.to_le_bytes());
        let told = sent(|reply| reply.attributes(&found, lasts));
        assert_eq!(told.len(), 16 + 104);
        // Half a second before 1970 is -2 seconds and a half of the next.
        assert_eq!(told[56..64], (-2_i64).to_le_bytes());
        assert_eq!(told[80..84], 500_000_000_u32.to_le_bytes());
        assert_eq!(told[92..96], 0o100_640_u32.to_le_bytes());
        let open = OpenAnswer { handle: 1, flags: FopenFlags::empty(), backing: Some(4) };
        let opened = sent(|reply| reply.opened(&open));
        assert_eq!((opened.len(), opened[28]), (32, 4));
        assert_eq!(
            sent(|reply| reply.created(&Found { attributes: Some(&found), node: 7, lasts }, &open)).len(),
            16 + 144
        );
        assert_eq!(sent(|reply| reply.written(5)).len(), 24);
        assert_eq!(sent(|reply| reply.lock(None)).len(), 40);
        let space = Space { total: 9, free: 5, files: 1, unit: 4_096, longest_name: 255 };
        assert_eq!(sent(|reply| reply.space(&space)).len(), 16 + 80);
        assert_eq!(sent(|reply| reply.attribute(b"abc", 2))[4..8], (-Errno::ERANGE.code()).to_le_bytes());
    }

    #[test]
    fn nobody_waits_for_ever() {
        assert_eq!(sent(drop)[4..8], (-Errno::EIO.code()).to_le_bytes());
    }

    #[test]
    fn a_listing_takes_what_it_has_room_for() {
        let attributes = attributes();
        let found = Found { attributes: Some(&attributes), node: 7, lasts: Duration::ZERO };
        let mut page = FolderPage::new(64, false);
        assert!(page.add("a", 1, &found));
        assert!(page.add("eight888", 2, &found));
        assert!(!page.add("b", 3, &found));
        assert_eq!(page.bytes().len(), 64);
        let mut long = FolderPage::new(4_096, true);
        assert!(long.add("a", 1, &found));
        assert_eq!(long.bytes().len(), 128 + 32);
    }
}
