//! The namenode's own data: backups, its health, checks, and what is kept after an accepted loss.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use steadfs_common::{ChecksumKind, FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;

use crate::Client;

/// How long reading or checking everything may take.
const LONG: Duration = Duration::from_secs(24 * 3_600);

/// A piece of a backup. The manifest comes last, and without it there is no backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPiece {
    /// What follows in a file.
    Part {
        /// Its name: a plain one.
        file: String,
        /// The bytes.
        data: Bytes,
    },
    /// The bytes of the file `BACKUP`.
    Manifest(Bytes),
}

/// How the namenode's own data is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataHealth {
    /// The folders of the journal's copies, and `complete`, `filling` or `left`.
    pub journal: Vec<(String, String)>,
    /// What is wrong now.
    pub problems: Vec<String>,
    /// What was found lately, oldest first.
    pub findings: Vec<String>,
}

/// Blocks that no file has and that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBlocks {
    /// How many there are, as far as datanodes have reported.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Some of them: id and length.
    pub page: Vec<(u64, u64)>,
}

/// What a check of the namespace found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceCheck {
    /// Files and folders looked at.
    pub inodes: u64,
    /// Blocks looked at.
    pub blocks: u64,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What was put right.
    pub repaired: Vec<String>,
}

fn health(answer: pb::HealthResponse) -> DataHealth {
    DataHealth {
        journal: answer.journal.into_iter().map(|copy| (copy.folder, copy.state)).collect(),
        problems: answer.problems,
        findings: answer.findings,
    }
}

fn piece(piece: pb::BackupPiece) -> FsResult<BackupPiece> {
    let damaged =
        |what: &str| FsError::new(FsErrorKind::Io, format!("The backup is damaged on its way: {what}"));
    match piece.piece.ok_or_else(|| damaged("an empty piece"))? {
        pb::backup_piece::Piece::Manifest(bytes) => Ok(BackupPiece::Manifest(bytes)),
        pb::backup_piece::Piece::Part(part) => {
            if ChecksumKind::Crc32c.of(&part.data) != part.crc32c {
                return Err(damaged("a checksum does not match"));
            }
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            let name = part.file;
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
                return Err(damaged("a file's name is not plain"));
            }
            Ok(BackupPiece::Part { file: name, data: part.data })
        }
    }
}

impl Client {
    /// The namenode's store as of now, in pieces.
    ///
    /// # Errors
    /// Those of any call; Refused while another backup is taken.
    pub async fn backup(&self) -> FsResult<impl Stream<Item = FsResult<BackupPiece>> + Send + use<>> {
        let calls = &self.inner.calls;
        let pieces = calls.upkeep(LONG, pb::Empty {}, |mut c, r| async move { c.backup(r).await }).await?;
        let inner = self.inner.clone();
        Ok(pieces.map(move |next| next.map_err(|status| inner.calls.error_of(&status)).and_then(piece)))
    }

    /// How the namenode's own data is.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn data_health(&self) -> FsResult<DataHealth> {
        let calls = &self.inner.calls;
        let limit = calls.call_timeout();
        calls.upkeep(limit, pb::Empty {}, |mut c, r| async move { c.health(r).await }).await.map(health)
    }

    /// Has the namenode read journal and store now, and make good what rotted; answers when that is done.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn scrub(&self) -> FsResult<DataHealth> {
        let calls = &self.inner.calls;
        calls.upkeep(LONG, pb::Empty {}, |mut c, r| async move { c.scrub(r).await }).await.map(health)
    }

    /// Blocks past `after` that no file has and that are kept since a loss was accepted.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn kept_blocks(&self, after: u64) -> FsResult<KeptBlocks> {
        let calls = &self.inner.calls;
        let (limit, request) = (calls.call_timeout(), pb::KeptRequest { after });
        let answer = calls.upkeep(limit, request, |mut c, r| async move { c.kept(r).await }).await?;
        Ok(KeptBlocks {
            blocks: answer.blocks,
            bytes: answer.bytes,
            page: answer.page.into_iter().map(|block| (block.id, block.length)).collect(),
        })
    }

    /// Lets them go.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn forget_kept(&self) -> FsResult<()> {
        let calls = &self.inner.calls;
        let limit = calls.call_timeout();
        calls.upkeep(limit, pb::Empty {}, |mut c, r| async move { c.forget_kept(r).await }).await.map(drop)
    }

    /// Has the namenode look at every row of its namespace, and with `repair` put right what can be.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn check_namespace(&self, repair: bool) -> FsResult<NamespaceCheck> {
        let calls = &self.inner.calls;
        let request = pb::CheckNamespaceRequest { repair };
        let answer =
            calls.upkeep(LONG, request, |mut c, r| async move { c.check_namespace(r).await }).await?;
        Ok(NamespaceCheck {
            inodes: answer.inodes,
            blocks: answer.blocks,
            problems: answer.problems,
            repaired: answer.repaired,
        })
    }
}
