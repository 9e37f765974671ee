//! The check of the namespace itself: is what is stored sound, and can it be put right?

use steadfs_common::{BlockId, FsResult, InodeId};
use steadfs_namenode_core::namespace::check::{self, Problem};
use steadfs_namenode_core::{Caller, Command};

use super::Service;
use crate::store::StoreView;

/// Rows looked at in one hold of a thread.
const STEP: usize = 1_000;
/// Problems that are told; more are not looked for.
const MAX_PROBLEMS: usize = 1_000;
/// Passes of repairs: one may uncover what another has to do.
const PASSES: usize = 8;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) inodes: u64,
    pub(crate) blocks: u64,
    /// What is wrong, also after what was repaired.
    pub(crate) problems: Vec<String>,
    /// What was put right.
    pub(crate) repaired: Vec<String>,
}

#[derive(Default)]
struct Scan {
    inodes: u64,
    blocks: u64,
    complete: u64,
    problems: Vec<Problem>,
}

impl Scan {
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Looks at some inodes; gives the last one, none at the end.
    fn inodes(&mut self, view: &StoreView, after: InodeId) -> Option<InodeId> {
        let page = view.inodes_after(after, STEP);
        for inode in &page {
            self.inodes += 1;
            self.problems.extend(check::inode(view, inode));
        }
        page.last().map(|inode| inode.id).filter(|_| page.len() == STEP && !self.is_full())
    }

    fn blocks(&mut self, view: &StoreView, from: BlockId) -> Option<BlockId> {
        let page = view.blocks_from(from, STEP);
        for block in &page {
            self.blocks += 1;
            self.complete += u64::from(block.is_complete());
            self.problems.extend(check::block(view, block));
        }
        page.last().map(|block| block.id.next()).filter(|_| page.len() == STEP && !self.is_full())
    }
}

impl Service {
    /// Looks at every row of the namespace as of now; with `repair`, puts right what can be.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub(crate) async fn check_namespace(&self, caller: &Caller, repair: bool) -> FsResult<Checked> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "checkNamespace")?;
            self.check_and_repair(caller, repair).await
        };
        let result = result.await;
        self.audit.changed(&started, "check_namespace", caller, &"/", &result);
        result
    }

    async fn check_and_repair(&self, caller: &Caller, repair: bool) -> FsResult<Checked> {
        let mut repaired = Vec::new();
        for pass in 0.. {
            let scan = self.scan().await;
            let mut commands: Vec<(Command, String)> = Vec::new();
            for problem in &scan.problems {
                if let Some(command) = &problem.repair
                    && !commands.iter().any(|(known, _)| known == command)
                {
                    commands.push((command.clone(), problem.text.clone()));
                }
            }
            if !repair || commands.is_empty() || pass == PASSES {
                let problems = scan.problems.into_iter().map(|problem| problem.text).collect();
                return Ok(Checked { inodes: scan.inodes, blocks: scan.blocks, problems, repaired });
            }
            for (command, text) in commands {
                self.commits.submit(caller.clone(), None, command, None).await?;
                self.health.found(format!("the namespace was repaired: {text}"));
                repaired.push(text);
            }
        }
        unreachable!("the passes are bounded")
    }

    /// One view for all of it, so that nothing moves meanwhile.
    async fn scan(&self) -> Scan {
        let store = self.store.clone();
        let scan = move || {
            let (view, mut scan) = (store.view(), Scan::default());
            let mut inode = Some(InodeId(0));
            while let Some(after) = inode {
                inode = scan.inodes(&view, after);
            }
            let mut block = Some(BlockId(0));
            while let Some(from) = block.filter(|_| !scan.is_full()) {
                block = scan.blocks(&view, from);
            }
            if !scan.is_full() {
                let found = check::counters(&*view, scan.blocks, scan.complete);
                scan.problems.extend(found);
            }
            scan
        };
        self.pool.run(scan).await
    }
}
