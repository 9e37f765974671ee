//! Folders, page by page.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::WireType;
use steadfs_common::limits::LISTING_PAGE;
use steadfs_common::{FsError, FsResult};
use steadfs_proto::hadoop::{
    BatchedDirectoryListingProto, DirectoryListingProto, GetBatchedListingRequestProto,
    GetBatchedListingResponseProto, GetListingRequestProto, GetListingResponseProto, HdfsFileStatusProto,
    RemoteExceptionProto,
};

use steadfs_namenode_core::{Children, locality};

use super::{Asked, convert, paths};
use crate::service::{FileStatus, Listing};

/// Most paths of one batched listing (HDFS: `dfs.batched.ls.limit`).
const MAX_BATCH: usize = 100;
/// Tags of `GetListingResponseProto` and `DirectoryListingProto`.
const DIR_LIST: u32 = 1;
const PARTIAL_LISTING: u32 = 1;
const REMAINING_ENTRIES: u32 = 2;
/// About what an entry takes, encoded.
const ENTRY_BYTES: usize = 128;
/// The most that stands before the entries: a tag and a length.
const HEAD_BYTES: usize = 16;

pub(super) async fn get_listing(asked: Asked, request: GetListingRequestProto) -> FsResult<Bytes> {
    if !request.need_location {
        return plain_listing(&asked, &request).await;
    }
    let page = page(&asked, &request.src, &request.start_after, LISTING_PAGE, true).await?;
    let answer = GetListingResponseProto {
        dir_list: page.map(|page| DirectoryListingProto {
            remaining_entries: remaining(&page),
            partial_listing: entries(&asked, &page),
        }),
    };
    Ok(answer.encode_to_vec().into())
}

/// The encoded answer that a page was told with, and the policy that its entries inherited then.
#[derive(Clone)]
struct Told {
    policy: u8,
    answer: Bytes,
}

/// A listing without places is the same for everybody who may see it: it is encoded once and kept with the page.
async fn plain_listing(asked: &Asked, request: &GetListingRequestProto) -> FsResult<Bytes> {
    let Some(path) = paths::maybe(&request.src)? else { return Ok(Bytes::new()) };
    let Some(found) = asked.service.page(&asked.caller, &path, &request.start_after).await? else {
        return Ok(Bytes::new());
    };
    let encode = || Told { policy: found.policy, answer: encoded(&found.page, found.policy) };
    Ok(match found.page.derived(encode) {
        Some(told) if told.policy == found.policy => told.answer,
        _ => encoded(&found.page, found.policy),
    })
}

/// A [`GetListingResponseProto`] of a page whose entries inherit `policy`, entry by entry: the whole of it as messages
/// would be some times larger.
fn encoded(page: &Children, policy: u8) -> Bytes {
    let mut list = Vec::with_capacity(page.rows.len() * ENTRY_BYTES);
    for (name, inode) in &page.rows {
        let own = if inode.storage_policy == 0 { policy } else { inode.storage_policy };
        let mut status = convert::inode(inode, name.as_ref().map_or("", |name| name.as_str()));
        status.storage_policy = Some(u32::from(own));
        prost::encoding::message::encode(PARTIAL_LISTING, &status, &mut list);
    }
    prost::encoding::uint32::encode(REMAINING_ENTRIES, &u32::from(page.more), &mut list);
    let mut answer = BytesMut::with_capacity(list.len() + HEAD_BYTES);
    prost::encoding::encode_key(DIR_LIST, WireType::LengthDelimited, &mut answer);
    prost::encoding::encode_varint(list.len() as u64, &mut answer);
    answer.put_slice(&list);
    answer.freeze()
}

/// One page of a folder. With locations it also ends once it holds more of them than a page has entries.
async fn page(
    asked: &Asked,
    src: &str,
    after: &[u8],
    limit: usize,
    locations: bool,
) -> FsResult<Option<Listing>> {
    let Some(path) = paths::maybe(src)? else { return Ok(None) };
    let page = asked.service.list(&asked.caller, &path, after, limit, locations).await?;
    Ok(page.map(|mut page| {
        let mut held = 0;
        let end = page.entries.iter().position(|entry| {
            held += places(entry);
            held > LISTING_PAGE
        });
        if let Some(end) = end {
            // The entry that went past the limit still goes out, so that each page has one at least.
            page.remaining += (page.entries.len() - end - 1) as u64;
            page.entries.truncate(end + 1);
        }
        page
    }))
}

fn places(entry: &FileStatus) -> usize {
    entry.blocks.iter().flat_map(|file| &file.blocks).map(|block| block.locations.len()).sum()
}

fn entries(asked: &Asked, page: &Listing) -> Vec<HdfsFileStatusProto> {
    let naming = asked.naming(locality::Asked::Listing);
    page.entries.iter().map(|entry| convert::status(&asked.pool, entry, &naming)).collect()
}

fn remaining(page: &Listing) -> u32 {
    u32::try_from(page.remaining).unwrap_or(u32::MAX)
}

/// Where a batched listing goes on. The client keeps it and sends it back with the same paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cookie {
    path: u32,
    after: Bytes,
}

impl Cookie {
    fn decode(mut bytes: Bytes) -> FsResult<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let path = bytes
            .try_get_u32()
            .map_err(|_| FsError::invalid_argument("`startAfter` is not of this server"))?;
        Ok(Self { path, after: bytes })
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + self.after.len());
        out.put_u32(self.path);
        out.put_slice(&self.after);
        out.freeze()
    }
}

pub(super) async fn get_batched_listing(
    asked: Asked,
    request: GetBatchedListingRequestProto,
) -> FsResult<GetBatchedListingResponseProto> {
    if request.paths.len() > MAX_BATCH {
        return Err(FsError::invalid_argument(format!(
            "Too many source paths ({}), limit {MAX_BATCH}",
            request.paths.len()
        )));
    }
    let mut at = Cookie::decode(request.start_after)?;
    let (mut listings, mut left) = (Vec::new(), LISTING_PAGE);
    while let Some(path) = request.paths.get(at.path as usize) {
        if left == 0 {
            return Ok(GetBatchedListingResponseProto { listings, has_more: true, start_after: at.encode() });
        }
        let page = match page(&asked, path, &at.after, left, request.need_location).await {
            Ok(Some(page)) => page,
            Ok(None) => {
                listings.push(failed(at.path, &FsError::not_found(path)));
                at = Cookie { path: at.path + 1, after: Bytes::new() };
                continue;
            }
            Err(error) => {
                listings.push(failed(at.path, &error));
                at = Cookie { path: at.path + 1, after: Bytes::new() };
                continue;
            }
        };
        left = left.saturating_sub(page.entries.len());
        let partial_listing = entries(&asked, &page);
        let last = partial_listing.last().map(|entry| entry.path.clone());
        listings.push(BatchedDirectoryListingProto { partial_listing, parent_idx: at.path, exception: None });
        match last {
            Some(after) if page.remaining > 0 => {
                at.after = after;
                return Ok(GetBatchedListingResponseProto {
                    listings,
                    has_more: true,
                    start_after: at.encode(),
                });
            }
            _ => at = Cookie { path: at.path + 1, after: Bytes::new() },
        }
    }
    Ok(GetBatchedListingResponseProto { listings, has_more: false, start_after: Bytes::new() })
}

/// A path that could not be listed; the others are.
fn failed(parent_idx: u32, error: &FsError) -> BatchedDirectoryListingProto {
    let exception = RemoteExceptionProto {
        class_name: error.kind().hadoop_class().to_owned(),
        message: Some(error.message().to_owned()),
    };
    BatchedDirectoryListingProto { partial_listing: Vec::new(), parent_idx, exception: Some(exception) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use steadfs_common::Name;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_entry_by_entry_is_the_message(
            rows in proptest::collection::vec((crate::store::records::tests::inode(), "[a-zé]{1,20}"), 0..5),
            policy in prop_oneof![Just(0_u8), Just(7), Just(12)],
            more: bool,
        ) {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(inode, name)| (Some(Name::new(&name).unwrap()), Arc::new(inode)))
                .collect();
            let entries = rows.iter().map(|(name, inode)| {
                let policy = if inode.storage_policy == 0 { policy } else { inode.storage_policy };
                FileStatus { inode: inode.clone(), name: name.clone(), blocks: None, policy }
            });
            let message = GetListingResponseProto {
                dir_list: Some(DirectoryListingProto {
                    partial_listing: entries.map(|entry| convert::status("pool", &entry, &|_| None)).collect(),
                    remaining_entries: u32::from(more),
                }),
            };
            let page = Children::new(rows, more);
            prop_assert_eq!(encoded(&page, policy), message.encode_to_vec());
        }
    }

    #[test]
    fn a_cookie_comes_back_and_a_foreign_one_is_refused() {
        let cookie = Cookie { path: 7, after: Bytes::from_static(b"name") };
        assert_eq!(Cookie::decode(cookie.encode()).unwrap(), cookie);
        assert_eq!(Cookie::decode(Bytes::new()).unwrap(), Cookie::default());
        assert!(Cookie::decode(Bytes::from_static(b"abc")).is_err());
    }
}
