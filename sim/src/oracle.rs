//! What was acknowledged: the judge of everything else.

use std::collections::BTreeMap;

/// What is known of a file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// All bytes that were ever handed out to be written, in their order.
    pub bytes: Vec<u8>,
    /// So many of them are acknowledged: they must be there for ever.
    pub acked: usize,
    /// The file was closed and its length is known to be that of `bytes`.
    pub closed: bool,
    /// A truncation to this length is under way: it may have happened or not.
    pub cut: Option<usize>,
    /// The mode that was set and acknowledged.
    pub mode: Option<u32>,
    /// A mode that may have been set.
    pub mode_in_doubt: Option<u32>,
    /// Replicas that are wanted; the second is in doubt.
    pub replication: (u32, Option<u32>),
}

impl File {
    /// Whether `found` may be the file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, found: &[u8]) -> Result<(), String> {
        let least = self.cut.map_or(self.acked, |cut| cut.min(self.acked));
        if found.len() < least {
            return Err(format!("{} bytes of {} acknowledged are there", found.len(), self.acked));
        }
        if found.len() > self.bytes.len() {
            return Err(format!("{} bytes are there, {} were written", found.len(), self.bytes.len()));
        }
        if self.closed && self.cut.is_none() && found.len() != self.bytes.len() {
            return Err(format!("{} bytes are there, it was closed with {}", found.len(), self.bytes.len()));
        }
        match found.iter().zip(&self.bytes).position(|(one, other)| one != other) {
            Some(at) => Err(format!("byte {at} is not what was written there")),
            None => Ok(()),
        }
    }
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file.
    File(File),
}

/// A change that may have been made or not.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// How the client's tree is if it was made.
    pub after: BTreeMap<String, Node>,
}

/// What one client may expect. Each client has a folder of its own, and does one thing at a time.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Everything below its folder, by path.
    pub nodes: BTreeMap<String, Node>,
    /// What was begun and not answered.
    pub doubt: Option<Doubt>,
}

impl Tree {
    /// A file that must be there.
    pub fn file(&mut self, path: &str) -> Option<&mut File> {
        match self.nodes.get_mut(path) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// All paths of closed files.
    #[must_use]
    pub fn closed(&self) -> Vec<String> {
        let closed = |node: &Node| matches!(node, Node::File(file) if file.closed && file.cut.is_none());
        self.nodes.iter().filter(|(_, node)| closed(node)).map(|(path, _)| path.clone()).collect()
    }

    /// Moves a path and all below it.
    pub fn renamed(&self, from: &str, to: &str) -> BTreeMap<String, Node> {
        let below = format!("{from}/");
        let moved = |(path, node): (&String, &Node)| {
            let path = match path.strip_prefix(&below) {
                Some(rest) => format!("{to}/{rest}"),
                None if path == from => to.to_owned(),
                None => path.clone(),
            };
            (path, node.clone())
        };
        self.nodes.iter().map(moved).collect()
    }

    /// Without a path and all below it.
    #[must_use]
    pub fn without(&self, path: &str) -> BTreeMap<String, Node> {
        let below = format!("{path}/");
        let stays = |other: &str| other != path && !other.starts_with(&below);
        self.nodes
            .iter()
            .filter(|(other, _)| stays(other))
            .map(|(at, node)| (at.clone(), node.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_what_is_lost_and_what_is_wrong() {
        let file = File { bytes: b"abcdef".to_vec(), acked: 4, ..File::default() };
        assert!(file.check(b"abcd").is_ok() && file.check(b"abcdef").is_ok());
        assert!(
            file.check(b"abc").is_err() && file.check(b"abxd").is_err() && file.check(b"abcdefg").is_err()
        );
        let closed = File { acked: 6, closed: true, ..file.clone() };
        assert!(closed.check(b"abcde").is_err() && closed.check(b"abcdef").is_ok());
        let cut = File { cut: Some(2), ..closed };
        assert!(cut.check(b"ab").is_ok() && cut.check(b"a").is_err());
    }

    #[test]
    fn renames_and_deletes_take_along_what_is_below() {
        let mut tree = Tree::default();
        for path in ["/c/a", "/c/a/f", "/c/ab"] {
            tree.nodes.insert(path.into(), Node::Folder);
        }
        assert_eq!(tree.renamed("/c/a", "/c/z").into_keys().collect::<Vec<_>>(), ["/c/ab", "/c/z", "/c/z/f"]);
        assert_eq!(tree.without("/c/a").into_keys().collect::<Vec<_>>(), ["/c/ab"]);
    }
}
