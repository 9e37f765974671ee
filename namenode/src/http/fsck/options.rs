//! What the stock tool asks for: its options as parameters of a query.

use steadfs_common::{BlockId, FsPath};
use steadfs_wire::webhdfs::{Query, RestError};

/// Blocks that one question may name.
const MAX_BLOCKS: usize = 10_000;

/// A block to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Block(BlockId),
    /// Not the name of one.
    Nonsense(String),
}

/// The question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the tool")]
pub(super) struct Options {
    pub(super) user: String,
    pub(super) path: FsPath,
    pub(super) files: bool,
    pub(super) blocks: bool,
    pub(super) locations: bool,
    pub(super) racks: bool,
    pub(super) details: bool,
    pub(super) upgrade_domains: bool,
    pub(super) policies: bool,
    pub(super) maintenance: bool,
    pub(super) open: bool,
    pub(super) progress: bool,
    pub(super) salvage: bool,
    pub(super) delete: bool,
    pub(super) what: What,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All files at and below the path.
    Tree,
    /// Files without a good replica of some block, past this one.
    Corrupt(BlockId),
    /// Some blocks.
    Blocks(Vec<Named>),
}

fn named(word: &str) -> Named {
    let digits = word.strip_prefix("blk_").map(|rest| rest.split('_').next().unwrap_or(rest));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(id) => Named::Block(BlockId(id)),
        None => Named::Nonsense(word.chars().take(100).collect()),
    }
}

impl Options {
    pub(super) fn of(raw: &str) -> Result<Self, RestError> {
        let query = Query::parse(raw)?;
        let has = |name: &str| query.optional(name).is_some();
        let what = if let Some(ids) = query.optional("blockid") {
            What::Blocks(ids.split_whitespace().take(MAX_BLOCKS).map(named).collect())
        } else if has("listcorruptfileblocks") {
            What::Corrupt(BlockId(query.text("startblockafter").trim().parse().unwrap_or(0)))
        } else {
            What::Tree
        };
        Ok(Self {
            user: query.optional("ugi").map_or_else(|| query.user(), Ok)?.to_owned(),
            path: FsPath::parse(query.optional("path").unwrap_or("/"))?,
            files: has("files"),
            blocks: has("blocks"),
            locations: has("locations"),
            racks: has("racks"),
            details: has("replicadetails"),
            upgrade_domains: has("upgradedomains"),
            policies: has("storagepolicies"),
            maintenance: has("maintenance"),
            open: has("openforwrite"),
            progress: has("showprogress"),
            salvage: has("move"),
            delete: has("delete"),
            what,
        })
    }

    /// Whether the places of replicas are told.
    pub(super) const fn places(&self) -> bool {
        self.locations || self.racks || self.details || self.upgrade_domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_there_or_not_and_blocks_are_listed() {
        let options = Options::of("ugi=ann&path=%2Fd&files=1&replicadetails=1").unwrap();
        assert_eq!((options.user.as_str(), options.path.to_string().as_str()), ("ann", "/d"));
        assert!(options.files && options.details && options.places() && !options.blocks);
        assert_eq!(options.what, What::Tree);
        let options = Options::of("ugi=ann&blockId=blk_1073741825+blk_7_1001+odd+&path=%2F").unwrap();
        let named =
            [Named::Block(BlockId(1_073_741_825)), Named::Block(BlockId(7)), Named::Nonsense("odd".into())];
        assert_eq!(options.what, What::Blocks(named.to_vec()));
        let options = Options::of("ugi=ann&listcorruptfileblocks=1&startblockafter=12&path=%2F").unwrap();
        assert_eq!(options.what, What::Corrupt(BlockId(12)));
    }
}
