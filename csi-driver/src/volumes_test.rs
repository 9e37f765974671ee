//! Volumes over a namespace in memory that fails where the test likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use steadfs_client::FsResult;

use super::*;
use crate::namespace::{Room, Usage};

const STATE: &str = "/.steadfs/csi";
const GIB: u64 = 1 << 30;

#[derive(Clone, Debug, Default)]
struct Node {
    inode: u64,
    mode: u16,
    owner: String,
    group: String,
    quota: Option<u64>,
    policy: Option<String>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// When a call fails: before or after it has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    next: u64,
    calls: usize,
    cut: Option<(usize, Cut)>,
}

/// A namespace in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

fn error(kind: FsErrorKind, text: &str) -> FsError {
    FsError::new(kind, text.to_owned())
}

impl State {
    fn resolve(&self, path: &str) -> String {
        let Some(rest) = path.strip_prefix("/.reserved/.inodes/") else { return path.to_owned() };
        let found = self.nodes.iter().find(|(_, node)| node.inode.to_string() == rest);
        found.map_or_else(|| format!("/gone/{rest}"), |(path, _)| path.clone())
    }

    fn node(&mut self, path: &str) -> FsResult<&mut Node> {
        let path = self.resolve(path);
        self.nodes.get_mut(&path).ok_or_else(|| error(FsErrorKind::NotFound, &path))
    }

    fn add(&mut self, path: &str, mode: u16) {
        self.next += 1;
        let inode = self.next;
        self.nodes.entry(path.to_owned()).or_insert(Node { inode, mode, ..Node::default() });
    }

    fn children(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.nodes.keys().filter(|other| other.starts_with(&prefix)).cloned().collect()
    }
}

impl Memory {
    fn call<T>(&self, work: impl FnOnce(&mut State) -> FsResult<T>) -> FsResult<T> {
        let mut state = self.0.lock();
        state.calls += 1;
        let cut = state.cut.filter(|(at, _)| *at == state.calls).map(|(_, cut)| cut);
        let lost = || error(FsErrorKind::Unreachable, "cut off");
        match cut {
            Some(Cut::Before) => Err(lost()),
            Some(Cut::After) => {
                let _ = work(&mut state);
                Err(lost())
            }
            None => work(&mut state),
        }
    }

    /// Fails at the call number `at` from now.
    fn cut(&self, at: usize, cut: Cut) {
        let mut state = self.0.lock();
        (state.calls, state.cut) = (0, Some((at, cut)));
    }

    fn heal(&self) {
        self.0.lock().cut = None;
    }

    fn paths(&self) -> Vec<String> {
        self.0.lock().nodes.keys().cloned().collect()
    }
}

impl Namespace for Memory {
    async fn stat(&self, path: &str) -> FsResult<Option<Folder>> {
        self.call(|state| {
            Ok(state.node(path).ok().map(|node| Folder {
                inode: InodeId(node.inode),
                directory: true,
                mode: node.mode,
                group: node.group.clone(),
            }))
        })
    }

    async fn make(&self, path: &str, above: u16, mode: u16) -> FsResult<()> {
        self.call(|state| {
            let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
            // An entry that was renamed away does not come back with its folder.
            for end in ends.collect::<Vec<_>>() {
                state.add(&path[..end], above);
            }
            state.add(path, mode);
            Ok(())
        })
    }

    async fn rename(&self, from: &str, to: &str) -> FsResult<()> {
        self.call(|state| {
            state.node(from)?;
            if state.nodes.contains_key(to) {
                return Err(error(FsErrorKind::AlreadyExists, to));
            }
            for path in state.children(from).into_iter().chain([from.to_owned()]) {
                let node = state.nodes.remove(&path).unwrap();
                state.nodes.insert(format!("{to}{}", &path[from.len()..]), node);
            }
            Ok(())
        })
    }

    async fn delete(&self, path: &str) -> FsResult<()> {
        self.call(|state| {
            let path = state.resolve(path);
            for path in state.children(&path).into_iter().chain([path]) {
                state.nodes.remove(&path);
            }
            Ok(())
        })
    }

    async fn attribute(&self, path: &str, name: &str) -> FsResult<Option<Vec<u8>>> {
        self.call(|state| Ok(state.node(path)?.attributes.get(name).cloned()))
    }

    async fn set_attribute(&self, path: &str, name: &str, value: &[u8], new: bool) -> FsResult<()> {
        self.call(|state| {
            let node = state.node(path)?;
            if new && node.attributes.contains_key(name) {
                return Err(error(FsErrorKind::InvalidArgument, "exists"));
            }
            node.attributes.insert(name.to_owned(), value.to_vec());
            Ok(())
        })
    }

    async fn remove_attribute(&self, path: &str, name: &str) -> FsResult<()> {
        self.call(|state| state.node(path).map(|node| drop(node.attributes.remove(name))))
    }

    async fn set_mode(&self, path: &str, mode: u16) -> FsResult<()> {
        self.call(|state| state.node(path).map(|node| node.mode = mode))
    }

    async fn set_owner(&self, path: &str, owner: Option<&str>, group: Option<&str>) -> FsResult<()> {
        self.call(|state| {
            let node = state.node(path)?;
            node.owner = owner.unwrap_or_default().to_owned();
            node.group = group.unwrap_or_default().to_owned();
            Ok(())
        })
    }

    async fn set_policy(&self, path: &str, policy: &str) -> FsResult<()> {
        self.call(|state| state.node(path).map(|node| node.policy = Some(policy.to_owned())))
    }

    async fn set_space_quota(&self, path: &str, quota: Option<u64>) -> FsResult<()> {
        self.call(|state| state.node(path).map(|node| node.quota = quota))
    }

    async fn usage(&self, path: &str) -> FsResult<Usage> {
        self.call(|state| Ok(Usage { space_quota: state.node(path)?.quota, names: 1, ..Usage::default() }))
    }

    async fn entries(&self, path: &str, after: InodeId, limit: usize) -> FsResult<Vec<(InodeId, String)>> {
        self.call(|state| {
            let mut entries: Vec<_> = state
                .children(path)
                .into_iter()
                .filter_map(|child| {
                    let name = child[path.len() + 1..].to_owned();
                    let inode = InodeId(state.nodes[&child].inode);
                    (!name.contains('/') && inode > after).then_some((inode, name))
                })
                .collect();
            entries.sort();
            entries.truncate(limit);
            Ok(entries)
        })
    }

    async fn room(&self) -> FsResult<Room> {
        self.call(|_| Ok(Room { capacity: 300 * GIB, remaining: 200 * GIB, replication: 3 }))
    }
}

fn volumes(memory: &Memory) -> Volumes<Memory> {
    Volumes::new(memory.clone(), FsPath::parse(STATE).unwrap(), FsPath::parse("/volumes").unwrap())
}

fn sizes(required: u64) -> Sizes {
    Sizes { required: Some(required), limit: None }
}

fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// What may be left when no volume is.
fn nothing_left(memory: &Memory) -> bool {
    let kept = ["/.steadfs", STATE, "/.steadfs/csi/deleting", "/.steadfs/csi/volumes", "/volumes"];
    memory.paths().iter().all(|path| kept.contains(&path.as_str()))
}

#[test]
fn a_volume_is_a_folder_with_a_quota() {
    let memory = Memory::default();
    let parameters =
        said(&[("replication", "2"), ("owner", "etl"), ("mode", "0750"), ("storagePolicy", "COLD")]);
    let volume = run(volumes(&memory).create("pvc-1", sizes(10 * GIB), &parameters)).unwrap();
    assert_eq!(volume.capacity, Some(10 * GIB));
    assert_eq!(volume.record.block_size, 128 << 20);
    let node = memory.0.lock().nodes["/volumes/pvc-1"].clone();
    assert_eq!((node.quota, node.mode, node.owner.as_str()), (Some(20 * GIB), 0o750, "etl"));
    assert_eq!((node.policy.as_deref(), node.inode), (Some("COLD"), volume.handle.inode.0));
    let found = run(volumes(&memory).find(&volume.handle)).unwrap();
    assert_eq!(found.record, volume.record);
}

#[test]
fn the_same_name_is_the_same_volume_or_refused() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let first = run(volumes.create("a", sizes(GIB), &said(&[]))).unwrap();
    assert_eq!(run(volumes.create("a", sizes(GIB), &said(&[]))).unwrap().handle, first.handle);
    let other_size = run(volumes.create("a", sizes(2 * GIB), &said(&[])));
    assert!(matches!(other_size, Err(Failure::Exists(_))), "{other_size:?}");
    let other = run(volumes.create("a", sizes(GIB), &said(&[("parent", "/elsewhere")])));
    assert!(matches!(other, Err(Failure::Exists(_))), "{other:?}");
}

#[test]
fn two_volumes_cannot_have_one_folder() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let parameters = said(&[("subFolder", "shared")]);
    run(volumes.create("a", sizes(GIB), &parameters)).unwrap();
    let second = run(volumes.create("b", sizes(GIB), &parameters)).unwrap_err();
    assert!(matches!(&second, Failure::Precondition(why) if why.contains("the volume `a`")), "{second:?}");
    // Nor the folder of somebody else.
    run(memory.make("/volumes/c", 0o755, 0o755)).unwrap();
    let third = run(volumes.create("c", sizes(GIB), &said(&[]))).unwrap_err();
    assert!(matches!(&third, Failure::Precondition(why) if why.contains("static volume")), "{third:?}");
    // Nor the driver's own.
    for parent in [STATE, "/.steadfs", "/.steadfs/csi/volumes"] {
        let own = run(volumes.create("d", sizes(GIB), &said(&[("parent", parent), ("subFolder", "csi")])));
        assert!(matches!(own, Err(Failure::Invalid(_))), "{parent}: {own:?}");
    }
}

#[test]
fn a_forged_handle_finds_nothing() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let volume = run(volumes.create("a", sizes(GIB), &said(&[]))).unwrap();
    let other = run(volumes.create("b", sizes(GIB), &said(&[]))).unwrap();
    let good = &volume.handle;
    for forged in [
        Handle { token: Token::random(), ..good.clone() },
        Handle { key: other.handle.key.clone(), ..good.clone() },
        Handle { inode: other.handle.inode, ..good.clone() },
        Handle { inode: InodeId(1), ..good.clone() },
    ] {
        assert!(matches!(run(volumes.find(&forged)), Err(Failure::NotFound(_))), "{forged}");
    }
    let stranger = Handle { token: Token::random(), ..good.clone() };
    run(volumes.delete(&stranger)).unwrap();
    run(volumes.find(good)).unwrap();
    // One whose inode is another's deletes nothing of that one.
    let crossed = Handle { inode: other.handle.inode, ..good.clone() };
    run(volumes.delete(&crossed)).unwrap();
    assert!(memory.paths().contains(&"/volumes/b".to_owned()));
    run(volumes.find(&other.handle)).unwrap();
}

#[test]
fn a_deleted_volume_leaves_nothing_and_a_retained_one_its_folder() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let volume = run(volumes.create("a", sizes(GIB), &said(&[]))).unwrap();
    run(memory.make("/volumes/a/file", 0o755, 0o644)).unwrap();
    run(volumes.delete(&volume.handle)).unwrap();
    run(volumes.delete(&volume.handle)).unwrap();
    assert!(nothing_left(&memory), "{:?}", memory.paths());
    let kept = run(volumes.create("k", sizes(GIB), &said(&[("onDelete", "retain")]))).unwrap();
    run(volumes.delete(&kept.handle)).unwrap();
    let node = memory.0.lock().nodes["/volumes/k"].clone();
    assert!(node.quota.is_none() && node.attributes.is_empty());
    assert!(matches!(run(volumes.find(&kept.handle)), Err(Failure::NotFound(_))));
}

#[test]
fn cut_off_at_any_step_it_is_made_once_by_the_next_call() {
    let parameters = said(&[("subFolder", "x/y"), ("owner", "etl"), ("storagePolicy", "HOT")]);
    for cut in [Cut::Before, Cut::After] {
        for at in 1..40 {
            let memory = Memory::default();
            let volumes = volumes(&memory);
            memory.cut(at, cut);
            let first = run(volumes.create("a", sizes(GIB), &parameters));
            memory.heal();
            let volume = run(volumes.create("a", sizes(GIB), &parameters)).unwrap();
            if let Ok(first) = first {
                assert_eq!(first.handle, volume.handle);
            }
            let node = memory.0.lock().nodes["/volumes/x/y"].clone();
            assert_eq!(
                (node.quota, node.mode, node.owner.as_str()),
                (Some(3 * GIB), 0o777, "etl"),
                "{at} {cut:?}"
            );
            // And no half of another: the entry, and the folder in its place.
            let beside = memory.paths().iter().filter(|path| path.ends_with("/folder")).count();
            assert_eq!(beside, 0, "{at} {cut:?}: {:?}", memory.paths());
            run(volumes.delete(&volume.handle)).unwrap();
        }
    }
}

#[test]
fn cut_off_at_any_step_it_is_deleted_by_the_next_call() {
    for on_delete in ["delete", "retain"] {
        for cut in [Cut::Before, Cut::After] {
            for at in 1..16 {
                let memory = Memory::default();
                let volumes = volumes(&memory);
                let volume = run(volumes.create("a", sizes(GIB), &said(&[("onDelete", on_delete)]))).unwrap();
                memory.cut(at, cut);
                let _ = run(volumes.delete(&volume.handle));
                memory.heal();
                run(volumes.delete(&volume.handle)).unwrap();
                if on_delete == "delete" {
                    assert!(nothing_left(&memory), "{at} {cut:?}: {:?}", memory.paths());
                } else {
                    assert!(memory.0.lock().nodes["/volumes/a"].attributes.is_empty());
                }
                // The name is free again.
                let again = run(volumes.create("a", sizes(GIB), &said(&[("parent", "/other")]))).unwrap();
                assert_ne!(again.handle, volume.handle);
            }
        }
    }
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let handle = run(volumes.create("a", sizes(2 * GIB), &said(&[]))).unwrap().handle;
    assert_eq!(run(volumes.expand(&handle, sizes(5 * GIB))).unwrap(), 5 * GIB);
    assert_eq!(memory.0.lock().nodes["/volumes/a"].quota, Some(15 * GIB));
    // What it has is enough.
    assert_eq!(run(volumes.expand(&handle, sizes(3 * GIB))).unwrap(), 5 * GIB);
    let smaller = Sizes { required: None, limit: Some(GIB) };
    assert!(matches!(run(volumes.expand(&handle, smaller)), Err(Failure::Range(_))));
    assert!(matches!(run(volumes.expand(&handle, sizes(101 * GIB))), Err(Failure::Range(_))));
    assert!(matches!(run(volumes.expand(&handle, Sizes::default())), Err(Failure::Invalid(_))));
    assert_eq!(run(volumes.find(&handle)).unwrap().capacity, Some(5 * GIB));
}

#[test]
fn what_the_cluster_cannot_hold_is_refused() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    for wrong in [sizes(101 * GIB), sizes(u64::MAX), Sizes { required: Some(2), limit: Some(1) }] {
        let refused = run(volumes.create("a", wrong, &said(&[])));
        assert!(matches!(refused, Err(Failure::Range(_))), "{refused:?}");
    }
    assert!(memory.paths().is_empty());
    run(volumes.create("a", Sizes::default(), &said(&[]))).unwrap();
    assert_eq!(memory.0.lock().nodes["/volumes/a"].quota, None);
}

#[test]
fn pages_follow_each_other_in_the_order_of_making() {
    let memory = Memory::default();
    let volumes = volumes(&memory);
    let names = ["d", "a", "c", "b", "e"];
    let mut made = Vec::new();
    for name in names {
        made.push(run(volumes.create(name, sizes(GIB), &said(&[]))).unwrap());
    }
    let (first, next) = run(volumes.list(0, 2)).unwrap();
    assert_eq!(first.iter().map(|v| v.record.name.as_str()).collect::<Vec<_>>(), ["d", "a"]);
    run(volumes.delete(&made[1].handle)).unwrap();
    let (second, next) = run(volumes.list(next.unwrap(), 2)).unwrap();
    assert_eq!(second.iter().map(|v| v.record.name.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    let (third, next) = run(volumes.list(next.unwrap(), 2)).unwrap();
    assert_eq!((third.len(), next), (1, None));
}

proptest! {
    /// Whatever is made, cut off and deleted in whatever order: a name has one volume, a folder has one volume, and what is
    /// deleted is gone.
    #[test]
    fn no_order_of_calls_makes_two_of_one(
        steps in prop::collection::vec((0..3_usize, 0..3_usize, any::<bool>(), 0..30_usize, any::<bool>()), 1..25),
    ) {
        let memory = Memory::default();
        let volumes = volumes(&memory);
        let (names, folders) = (["a", "b", "c"], ["x", "y", "z"]);
        let mut known: BTreeMap<String, Handle> = BTreeMap::new();
        let mut dying = Vec::new();
        for (name, folder, making, at, after) in steps {
            memory.cut(at, if after { Cut::After } else { Cut::Before });
            if making {
                let parameters = said(&[("subFolder", folders[folder])]);
                if let Ok(volume) = run(volumes.create(names[name], sizes(GIB), &parameters)) {
                    let before = known.insert(names[name].to_owned(), volume.handle.clone());
                    prop_assert!(before.is_none_or(|before| before == volume.handle));
                }
            } else if let Some(handle) = known.remove(names[name]) {
                // Cut off, it may have begun: from then on the name is free, and deleting goes on when it is asked for again.
                let _ = run(volumes.delete(&handle));
                dying.push(handle);
            }
            memory.heal();
        }
        // What had not begun to go, and was asked for again, is there still.
        for handle in dying.into_iter().filter(|handle| known.values().all(|known| known != handle)) {
            run(volumes.delete(&handle)).unwrap();
            prop_assert!(run(volumes.find(&handle)).is_err());
        }
        for (name, handle) in &known {
            prop_assert_eq!(&run(volumes.find(handle)).unwrap().record.name, name);
        }
        let mut inodes: Vec<_> = known.values().map(|handle| handle.inode).collect();
        inodes.sort();
        inodes.dedup();
        prop_assert_eq!(inodes.len(), known.len());
    }
}
