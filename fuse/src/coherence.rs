//! Hearing of what others change, and telling the kernel.
//!
//! While the namenode tells of changes, the kernel may rely on names and attributes for [`LONG`], and on the absence of
//! names as well; each change takes back what it touches, usually within some tens of milliseconds. When nothing is heard
//! any more, all names are taken back at once (by kernels from 6.16 on; older ones forget them within [`LONG`]), and from
//! then on the kernel relies on nothing longer than `--cache-ttl-ms` says.
//!
//! An answer that was on its way while something changed may already be old when it arrives: it counts for the short time.
//! An `open` may come before what it must see was heard of: then the kernel is told there and then.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use steadfs_client::{Change, ChangeKind, Client, FsPath, WatchFilter, Watched};
use steadfs_common::InodeId;

use crate::notify::Notify;
use crate::open::OpenInodes;
use crate::ops::ROOT;

/// How long the kernel may rely on what it was told, while changes are heard of.
const LONG: Duration = Duration::from_secs(30);

/// What is known about how old an answer may be.
#[derive(Default)]
pub(crate) struct Coherence {
    /// Changes are heard of.
    live: AtomicBool,
    /// Changes heard of so far, and losses of hearing.
    heard: AtomicU64,
    /// The kernel was told of every change up to this transaction.
    told: AtomicU64,
}

/// When an answer was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(u64);

impl Coherence {
    /// An answer is begun.
    pub(crate) fn begin(&self) -> Begun {
        Begun(self.heard.load(Ordering::Acquire))
    }

    /// How long the kernel may rely on an answer; `short` if changes are not heard of.
    pub(crate) fn lasts(&self, begun: Begun, short: Duration) -> Duration {
        let live = self.live.load(Ordering::Acquire) && self.heard.load(Ordering::Acquire) == begun.0;
        if live { LONG.max(short) } else { short }
    }

    /// Whether the absence of a name may be relied on.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Whether the kernel may still have to be told of a content of this version ([`steadfs_client::FileStatus`]), which is the
    /// number of the transaction that made it.
    pub(crate) fn is_unheard(&self, content: u64) -> bool {
        content > self.told.load(Ordering::Acquire)
    }

    /// Answers under way may change without anything being heard: a file that is being written grows.
    pub(crate) fn doubt(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    fn set_live(&self, live: bool) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.live.store(live, Ordering::Release);
        if !live {
            self.told.store(0, Ordering::Release);
        }
    }

    /// The kernel was told of every change up to a transaction since `missed`, and relies on what it knows for `short` at least.
    fn set_told(&self, transaction: u64, missed: Instant, short: Duration) {
        if missed.elapsed() >= LONG.max(short) {
            self.told.fetch_max(transaction, Ordering::AcqRel);
        }
    }
}

/// Tells the kernel of changes below `folder` until the runtime ends. `has_read`: whether all that the kernel keeps of a file's
/// bytes is known to be of a content.
pub(crate) async fn follow(
    coherence: Arc<Coherence>,
    notify: Notify,
    open: &OpenInodes,
    has_read: impl Fn(u64, u64) -> bool,
    (client, folder, root): (Client, FsPath, InodeId),
    short: Duration,
) {
    let filter = WatchFilter { below: Some(folder.to_string()), inodes: Vec::new() };
    let mut heard = std::pin::pin!(client.watch(filter, None));
    // What changed while nobody listened is not told: the kernel shall ask.
    notify.all().await;
    for inode in open.numbers() {
        notify.content(inode).await;
    }
    let number = |inode: InodeId| if inode == root { ROOT } else { inode.0 };
    // When something may have been missed last.
    let mut missed = Instant::now();
    while let Some(item) = heard.next().await {
        match item {
            Ok(Watched::Changed(change)) => {
                // Of this transaction there may be more to tell, and of a content that began with it or before.
                let content = if change.content_version == 0 { u64::MAX } else { change.content_version };
                coherence.set_told(change.transaction.min(content).saturating_sub(1), missed, short);
                coherence.heard.fetch_add(1, Ordering::AcqRel);
                if let Some(gone) = gone(&change).and_then(|gone| open.get(number(gone))) {
                    gone.set_gone();
                }
                // Before the kernel asks again.
                if let Some(inode) = open.get(number(change.inode)) {
                    inode.doubt();
                }
                let has_read = has_read(number(change.inode), change.content_version);
                tell(&notify, &change, has_read, &number).await;
            }
            Ok(Watched::Current(transaction)) => {
                if !coherence.is_live() {
                    coherence.set_live(true);
                }
                coherence.set_told(transaction, missed, short);
            }
            Ok(Watched::Lost(_)) => {
                missed = Instant::now();
                coherence.set_live(false);
                notify.all().await;
                // Any of those that are open may have changed, and nobody will tell of it.
                for number in open.numbers() {
                    if let Some(inode) = open.get(number) {
                        inode.doubt();
                    }
                    notify.content(number).await;
                }
            }
            Ok(Watched::Disconnected) => {
                missed = Instant::now();
                coherence.set_live(false);
                notify.all().await;
            }
            Err(error) => tracing::warn!(
                %error,
                "changes are not heard of: what others change is seen here after --cache-ttl-ms"
            ),
        }
    }
    coherence.set_live(false);
    notify.all().await;
}

/// The file that has lost its name.
fn gone(change: &Change) -> Option<InodeId> {
    match &change.kind {
        ChangeKind::Unlinked => Some(change.inode),
        ChangeKind::Created { replaced, .. } | ChangeKind::Renamed { replaced, .. } => *replaced,
        _ => None,
    }
}

/// `has_read`: the kernel has nothing of the file's bytes but what the change tells of.
async fn tell(notify: &Notify, change: &Change, has_read: bool, number: &impl Fn(InodeId) -> u64) {
    let (inode, parent) = (number(change.inode), number(change.parent));
    match &change.kind {
        ChangeKind::Created { .. } | ChangeKind::Unlinked => {
            name(notify, parent, change.path.as_ref()).await;
            notify.attributes(inode).await;
        }
        ChangeKind::Renamed { to, parent: to_parent, .. } => {
            name(notify, parent, change.path.as_ref()).await;
            name(notify, number(*to_parent), to.as_ref()).await;
            notify.attributes(inode).await;
        }
        // Who opened it at once has read what was closed, before this was heard.
        ChangeKind::Closed { .. } if has_read => notify.attributes(inode).await,
        ChangeKind::Closed { .. }
        | ChangeKind::Appended
        | ChangeKind::Truncated { .. }
        | ChangeKind::Flushed { .. } => notify.content(inode).await,
        ChangeKind::Metadata => notify.attributes(inode).await,
    }
}

/// A name in a folder has another meaning now. Where the path is not told, any may.
async fn name(notify: &Notify, folder: u64, path: Option<&FsPath>) {
    match path.and_then(FsPath::file_name) {
        Some(name) => {
            notify.entry(folder, OsStr::new(name.as_str()).to_owned()).await;
            notify.attributes(folder).await;
        }
        None => notify.all().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_while_something_changed_counts_for_the_short_time() {
        let coherence = Coherence::default();
        let short = Duration::from_secs(1);
        assert_eq!(coherence.lasts(coherence.begin(), short), short);
        coherence.set_live(true);
        let begun = coherence.begin();
        assert_eq!(coherence.lasts(begun, short), LONG);
        assert_eq!(coherence.lasts(begun, LONG * 2), LONG * 2);
        coherence.doubt();
        assert_eq!(coherence.lasts(begun, short), short);
        assert_eq!(coherence.lasts(coherence.begin(), short), LONG);
        coherence.set_live(false);
        assert_eq!(coherence.lasts(coherence.begin(), short), short);
        assert!(!coherence.is_live());
    }

    #[test]
    fn what_the_kernel_was_told_need_not_be_told_at_an_open_unless_some_was_missed() {
        let (coherence, long_ago) = (Coherence::default(), Instant::now() - LONG);
        let short = Duration::from_secs(1);
        assert!(coherence.is_unheard(1));
        coherence.set_told(7, Instant::now(), short);
        assert!(coherence.is_unheard(7), "it may remember what it was told before something was missed");
        coherence.set_told(7, long_ago, short);
        assert!(!coherence.is_unheard(7) && coherence.is_unheard(8));
        coherence.set_told(6, long_ago, short);
        assert!(!coherence.is_unheard(7));
        coherence.set_live(false);
        assert!(coherence.is_unheard(1));
    }
}
