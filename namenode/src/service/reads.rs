//! Questions.

use std::sync::Arc;

use steadfs_common::limits::{LISTING_PAGE, MOST_BLOCKS_PER_FILE};
use steadfs_common::{BlockId, DatanodeUuid, FsError, FsPath, FsResult, Name, ROOT_INODE, StorageId};
use steadfs_namenode_core::command::{BlockRef, FileRef};
use steadfs_namenode_core::namespace::read::{self, Action, Reader};
use steadfs_namenode_core::placement::PlacementRequest;
use steadfs_namenode_core::record::Inode;
use steadfs_namenode_core::{Caller, View};

use super::types::{ClusterReport, FileBlocks, FileStatus, Listing, LocatedBlock};
use super::{Service, Touch};
use crate::store::MemoryOnly;

/// Open files are counted up to this for a report.
const OPEN_FILES_COUNTED: usize = 10_000;
/// Missing blocks named in a report.
const MISSING_SHOWN: usize = 20;
/// Most datanodes added to a pipeline at once.
const MAX_ADDED_NODES: usize = 16;

impl Service {
    /// Reads what has no method of its own. `ask` may run twice: first on what is in memory, where its answer is thrown
    /// away if that was not enough; then where it may block.
    pub async fn read<T: Send + 'static>(&self, ask: impl Fn(&dyn View) -> T + Send + 'static) -> T {
        if let Some(answer) = self.at_hand(&ask) {
            return answer;
        }
        let store = self.store.clone();
        self.pool.run(move || ask(&*store.view())).await
    }

    /// The answer, if what is in memory is enough for it.
    fn at_hand<T>(&self, ask: impl Fn(&dyn View) -> T) -> Option<T> {
        let view = self.store.view_guard();
        let memory = MemoryOnly::new(&view);
        let answer = ask(&memory);
        (!memory.missed()).then_some(answer)
    }

    /// As [`Service::read`], about a path, as a caller. Copies caller and path only where the disk is needed.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        caller: &Caller,
        path: &FsPath,
        ask: impl Fn(&Reader<'_>, &FsPath) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let settings = &*self.settings;
        if let Some(answer) = self.at_hand(|view| ask(&Reader { view, caller, settings }, path)) {
            return answer;
        }
        let (store, caller, path) = (self.store.clone(), caller.clone(), path.clone());
        let settings = self.settings.clone();
        let work = move || {
            let view = store.view();
            ask(&Reader { view: &*view, caller: &caller, settings: &settings }, &path)
        };
        self.pool.run(work).await
    }

    /// A file's or folder's status; none if nothing is there.
    ///
    /// # Errors
    /// AccessDenied: the caller may not pass, or the path goes through a file.
    pub async fn status(&self, caller: &Caller, path: &FsPath) -> FsResult<Option<FileStatus>> {
        self.status_as("status", caller, path).await
    }

    /// As [`Service::status`], of a file with all its blocks and their places.
    ///
    /// # Errors
    /// As [`Service::status`].
    pub async fn located_status(&self, caller: &Caller, path: &FsPath) -> FsResult<Option<FileStatus>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| {
            let found = reader.stat(path)?;
            Ok(found.map(|inode| (all_blocks(reader, &inode), reader.policy_of(&inode), inode)))
        });
        let found = found.await;
        self.audit.asked(&started, "located_status", caller, path, &found);
        Ok(found?.map(|(blocks, policy, inode)| {
            let blocks = blocks.map(|blocks| self.place(caller, &blocks));
            FileStatus { inode, name: None, blocks, policy }
        }))
    }

    /// A page of at most `limit` (0: a whole page) entries of a folder after the name `after` (empty: from the first),
    /// with blocks and places if asked for; none if nothing is there. A file lists as itself.
    ///
    /// # Errors
    /// As [`Service::status`]; InvalidPath: `after` is no name.
    pub async fn list(
        &self,
        caller: &Caller,
        path: &FsPath,
        after: &[u8],
        limit: usize,
        locations: bool,
    ) -> FsResult<Option<Listing>> {
        let started = self.audit.start();
        let after = name_after(after)?;
        let limit = if limit == 0 { LISTING_PAGE } else { limit.min(LISTING_PAGE) };
        let listed = self.ask(caller, path, move |reader, path| {
            let Some(page) = reader.list(path, after.as_ref(), limit)? else { return Ok(None) };
            Ok(Some(if locations { with_blocks(reader, &page) } else { without_blocks(&page) }))
        });
        let listed = listed.await;
        self.audit.asked(&started, "list", caller, path, &listed);
        Ok(listed?.map(|page| self.listing(caller, page)))
    }

    /// As [`Service::list`] without places, as the store has it: what is made of a page once can be kept with it.
    ///
    /// # Errors
    /// As [`Service::list`].
    pub(crate) async fn page(
        &self,
        caller: &Caller,
        path: &FsPath,
        after: &[u8],
    ) -> FsResult<Option<read::Listing>> {
        let started = self.audit.start();
        let after = name_after(after)?;
        let listed =
            self.ask(caller, path, move |reader, path| reader.list(path, after.as_ref(), LISTING_PAGE));
        let listed = listed.await;
        self.audit.asked(&started, "list", caller, path, &listed);
        listed
    }

    fn listing(&self, caller: &Caller, page: Page) -> Listing {
        let entries = page.entries.into_iter().map(|(name, inode, blocks)| {
            let blocks = blocks.map(|blocks| self.place(caller, &blocks));
            let policy = if inode.storage_policy == 0 { page.policy } else { inode.storage_policy };
            FileStatus { inode, name, blocks, policy }
        });
        Listing { entries: entries.collect(), remaining: u64::from(page.more) }
    }

    /// Status and blocks of a file in a range of bytes. With an inode in `file`, the path must name that one.
    ///
    /// # Errors
    /// As [`Service::status`]; AccessDenied: the caller may not read it; NotFound; IsADirectory.
    pub async fn locations(
        &self,
        caller: &Caller,
        file: &FileRef,
        offset: u64,
        length: u64,
    ) -> FsResult<(FileStatus, FileBlocks)> {
        let started = self.audit.start();
        let wanted = file.inode;
        let found = self.ask(caller, &file.path, move |reader, path| {
            let found = reader.blocks(path, offset, length, MOST_BLOCKS_PER_FILE as usize)?;
            if wanted.is_some_and(|wanted| wanted != found.inode.id) {
                return Err(FsError::not_found(path));
            }
            let policy = reader.policy_of(&found.inode);
            Ok((found, policy))
        });
        let found = found.await;
        self.audit.asked(&started, "locations", caller, &file.path, &found);
        let (found, policy) = found?;
        self.touch(&found.inode);
        let placed = self.place(caller, &found);
        Ok((FileStatus { inode: found.inode, name: None, blocks: None, policy }, placed))
    }

    /// Notes that a file was read, if its access time is old enough to be moved.
    fn touch(&self, inode: &Inode) {
        let at = self.clock.now();
        if read::access_time_due(inode, &self.settings, at) {
            // A full queue forgets it: the next read comes.
            let _ = self.touches.try_send(Touch { file: inode.id, at });
        }
    }

    fn place(&self, caller: &Caller, found: &read::FileBlocks) -> FileBlocks {
        let locate = |found: &read::FileBlock| {
            let (locations, corrupt) = self.blocks.locate(&found.block, caller.address);
            let block = &found.block;
            LocatedBlock {
                block: BlockRef { id: block.id, stamp: block.stamp, length: block.length },
                offset: found.offset,
                locations,
                corrupt,
            }
        };
        FileBlocks {
            length: found.length,
            blocks: found.blocks.iter().map(locate).collect(),
            last: found.last.as_ref().map(locate),
            under_construction: found.inode.file().is_some_and(|file| file.under_construction),
            last_complete: found.last_complete,
        }
    }

    /// Whether the caller may do this (HDFS's `FsAction`: read 4, write 2, execute 1).
    ///
    /// # Errors
    /// As [`Service::status`]; AccessDenied if not; NotFound; InvalidArgument: no such action.
    pub async fn check_access(&self, caller: &Caller, path: &FsPath, action: u8) -> FsResult<()> {
        let started = self.audit.start();
        let action = Action::from_bits(action)
            .ok_or_else(|| FsError::invalid_argument(format!("{action} is not an access from 0 to 7")))?;
        let checked = self.ask(caller, path, move |reader, path| reader.check_access(path, action)).await;
        self.audit.asked(&started, "check_access", caller, path, &checked);
        checked
    }

    /// Whether nobody writes a file.
    ///
    /// # Errors
    /// As [`Service::status`]; NotFound; IsADirectory.
    pub async fn is_file_closed(&self, caller: &Caller, path: &FsPath) -> FsResult<bool> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| reader.file(path)).await;
        self.audit.asked(&started, "is_file_closed", caller, path, &found);
        Ok(found?.file().is_some_and(|file| !file.under_construction))
    }

    /// Chooses up to `count` more datanodes for the pipeline of a block that `client` writes. The answer has `existing`,
    /// then the new ones; no new ones if there is none to be had.
    ///
    /// # Errors
    /// NotFound; LeaseExpired: the client does not write the file, or the block is not the file's.
    #[expect(clippy::too_many_arguments, reason = "they are HDFS's call, each of another type")]
    pub async fn additional_datanode(
        &self,
        caller: &Caller,
        file: &FileRef,
        client: &str,
        block: BlockRef,
        existing: &[StorageId],
        excluded: &[DatanodeUuid],
        count: usize,
    ) -> FsResult<LocatedBlock> {
        let started = self.audit.start();
        let (wanted, holder) = (file.clone(), client.to_owned());
        let found = self.ask(caller, &file.path, move |reader, path| {
            let inode = reader.open_file(&wanted, &holder)?;
            let found = all_blocks(reader, &inode).and_then(|blocks| blocks.last);
            let last = found.filter(|last| last.block.id == block.id);
            let last = last.ok_or_else(|| FsError::not_found(format!("{} of {path}", block.id)))?;
            Ok((reader.policy_of(&inode), inode, last.offset))
        });
        let found = found.await;
        self.audit.asked(&started, "additional_datanode", caller, &file.path, &found);
        let (policy, inode, offset) = found?;
        let request = PlacementRequest {
            wanted: count.min(MAX_ADDED_NODES),
            least: usize::from(self.settings.min_replication),
            writer: caller.address,
            existing,
            excluded,
            favored: &[],
            avoid_local: false,
            block_size: inode.file().map_or(0, |body| body.block_size),
            policy,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let mut storages = existing.to_vec();
        storages.extend(self.blocks.choose(&request));
        Ok(LocatedBlock { block, offset, locations: self.blocks.locations(&storages), corrupt: false })
    }

    /// What an operator asks first.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub async fn report(&self, caller: &Caller) -> FsResult<ClusterReport> {
        let started = self.audit.start();
        let checked = self.check_superuser(caller);
        self.audit.asked(&started, "report", caller, &"/", &checked);
        checked?;
        self.overview().await
    }

    /// As [`Service::report`], for the namenode's own status page.
    ///
    /// # Errors
    /// None yet; a namenode that is not the leader may refuse.
    pub async fn overview(&self) -> FsResult<ClusterReport> {
        let count = |view: &dyn View| {
            let blocks = view.counters().map_or(0, |counters| counters.blocks);
            (view.totals(ROOT_INODE), blocks, view.leases(None, OPEN_FILES_COUNTED).len())
        };
        let (totals, blocks, open_files) = self.read(count).await;
        Ok(ClusterReport {
            cluster_id: self.identity.cluster_id.clone(),
            block_pool: self.identity.block_pool.clone(),
            started: self.started,
            safe_mode: self.blocks.safe_mode(),
            stats: self.blocks.stats(),
            files: totals.files,
            directories: totals.directories + 1,
            blocks,
            open_files: open_files as u64,
            datanodes: self.blocks.datanodes(),
            missing_blocks: self.blocks.missing_blocks(BlockId(0), MISSING_SHOWN),
            data_problems: self.health.problems(),
            kubernetes: self.kubernetes.problems(),
        })
    }
}

/// A page with the blocks of its files, where they were asked for.
struct Page {
    entries: Vec<(Option<Name>, Arc<Inode>, Option<read::FileBlocks>)>,
    more: bool,
    policy: u8,
}

fn without_blocks(page: &read::Listing) -> Page {
    let entries = page.page.rows.iter().map(|(name, inode)| (name.clone(), inode.clone(), None)).collect();
    Page { entries, more: page.page.more, policy: page.policy }
}

/// Stops the page early once it holds as many blocks as a page may hold entries: a listing of large files must not
/// grow without bound.
fn with_blocks(reader: &Reader<'_>, page: &read::Listing) -> Page {
    let mut out = Page { entries: Vec::new(), more: page.page.more, policy: page.policy };
    let mut blocks = 0;
    for (name, inode) in &page.page.rows {
        if blocks > LISTING_PAGE {
            out.more = true;
            break;
        }
        let found = all_blocks(reader, inode);
        blocks += found.as_ref().map_or(0, |found| found.blocks.len());
        out.entries.push((name.clone(), inode.clone(), found));
    }
    out
}

fn all_blocks(reader: &Reader<'_>, inode: &Arc<Inode>) -> Option<read::FileBlocks> {
    let file = inode.file().is_some();
    file.then(|| reader.blocks_of(inode, 0, u64::MAX, MOST_BLOCKS_PER_FILE as usize))
}

fn name_after(after: &[u8]) -> FsResult<Option<Name>> {
    if after.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(after);
    text.ok().map_or_else(|| Err(FsError::invalid_path(&String::from_utf8_lossy(after))), Name::new).map(Some)
}
