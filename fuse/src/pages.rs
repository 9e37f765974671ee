//! Whether what the kernel keeps of a file's bytes is good for whoever opens it next.
//!
//! At each open the kernel throws away its pages of a file, unless it is told to keep them. They may stay if all of them are of
//! the content that is opened. That is known of those that came since an open of this very content at which nobody else had
//! the file open: it threw away what was there, and of no other handle was anything still on its way.

use parking_lot::Mutex;
use quick_cache::unsync::Cache;

/// Files that are remembered. The pages of one that is forgotten are read again.
const REMEMBERED: usize = 16_384;

/// Of which content the kernel's pages are, by the kernel's numbers of files.
pub(crate) struct Pages {
    contents: Mutex<Cache<u64, u64>>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { contents: Mutex::new(Cache::new(REMEMBERED)) }
    }

    /// Whether the kernel may keep its pages at an open under the number `node`, which counts as open already. `content`: the
    /// version that is opened. `is_alone`: whether nobody else has it open under this number.
    pub(crate) fn may_stay(&self, node: u64, content: u64, is_alone: impl FnOnce() -> bool) -> bool {
        // No two opens decide at the same time.
        let mut contents = self.contents.lock();
        if contents.get(&node) == Some(&content) {
            return true;
        }
        if is_alone() {
            contents.insert(node, content);
        } else {
            contents.remove(&node);
        }
        false
    }

    /// Whether all pages that the kernel has under the number `node` are known to be of `content`.
    pub(crate) fn are_of(&self, node: u64, content: u64) -> bool {
        self.contents.lock().get(&node) == Some(&content)
    }

    /// Somebody, who counts as having the file open already, may write it: pages may be of what is never committed.
    pub(crate) fn doubt(&self, nodes: impl Iterator<Item = u64>) {
        let mut contents = self.contents.lock();
        for node in nodes {
            contents.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_for_the_content_that_they_are_known_to_be_of() {
        let pages = Pages::new();
        let (alone, beside) = (|| true, || false);
        assert!(!pages.may_stay(7, 1, alone), "what the kernel has from before is not known");
        assert!(pages.may_stay(7, 1, alone) && pages.may_stay(7, 1, beside));
        assert!(!pages.may_stay(8, 1, alone), "another file");
        // Another content, while a read of the former may be under way.
        assert!(!pages.may_stay(7, 2, beside));
        assert!(!pages.may_stay(7, 2, beside));
        assert!(!pages.may_stay(7, 2, alone));
        assert!(pages.may_stay(7, 2, beside));
        assert!(pages.are_of(7, 2) && !pages.are_of(7, 1) && !pages.are_of(9, 2));
        pages.doubt([6, 7].into_iter());
        assert!(!pages.are_of(7, 2) && !pages.may_stay(7, 2, alone));
        assert!(pages.may_stay(8, 1, beside));
    }
}
