//! Pages of folders are what the rows say, at every position, however often they are asked for.

use std::sync::Arc;

use proptest::prelude::*;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use steadfs_common::{InodeId, Millis, Name, TxId};
use steadfs_namenode_core::record::{Inode, InodeKind};
use steadfs_namenode_core::{Changes, Children, Key, MemoryView, Record, View};

use super::{Position, Store, StoreView};
use crate::config::StoreConfig;

const FOLDERS: std::ops::Range<u64> = 1..4;

fn small() -> StoreConfig {
    StoreConfig {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        inode_cache_entries: 8,
        entry_cache_entries: 8,
        page_cache_bytes: 64 << 10,
        ..StoreConfig::default()
    }
}

fn name(number: u64) -> Name {
    Name::new(&format!("n{number:06}")).unwrap()
}

fn put(folder: u64, number: u64, id: u64, mtime: u64, changes: &mut Changes) {
    let inode = Inode {
        id: InodeId(id),
        parent: InodeId(folder),
        name: Some(name(number)),
        owner: "o".into(),
        group: "g".into(),
        mode: 0o755,
        mtime: Millis(mtime),
        atime: Millis(0),
        changed: TxId(mtime),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: 0, quota: None },
    };
    changes.insert(Key::Entry(InodeId(folder), name(number)), Some(Record::Entry(InodeId(id))));
    changes.insert(Key::Inode(InodeId(id)), Some(Record::Inode(inode)));
}

#[derive(Clone, Debug)]
enum Step {
    /// Makes a name, or changes what it stands for.
    Put {
        folder: u64,
        number: u64,
    },
    Remove {
        folder: u64,
        number: u64,
    },
    Move {
        from: u64,
        number: u64,
        to: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (FOLDERS, 0..6_u64).prop_map(|(folder, number)| Step::Put { folder, number }),
        1 => (FOLDERS, 0..6_u64).prop_map(|(folder, number)| Step::Remove { folder, number }),
        1 => (FOLDERS, 0..6_u64, FOLDERS).prop_map(|(from, number, to)| Step::Move { from, number, to }),
    ]
}

fn changes(model: &MemoryView, step: &Step, now: u64) -> Changes {
    let mut out = Changes::new();
    let of = |folder: u64, number: u64| model.entry(InodeId(folder), &name(number));
    match *step {
        Step::Put { folder, number } => {
            let id = of(folder, number).map_or(1_000 + now, |id| id.0);
            put(folder, number, id, now, &mut out);
        }
        Step::Remove { folder, number } => {
            if let Some(id) = of(folder, number) {
                out.insert(Key::Entry(InodeId(folder), name(number)), None);
                out.insert(Key::Inode(id), None);
            }
        }
        Step::Move { from, number, to } => {
            if let Some(id) = of(from, number).filter(|_| of(to, number).is_none()) {
                out.insert(Key::Entry(InodeId(from), name(number)), None);
                put(to, number, id.0, now, &mut out);
            }
        }
    }
    out
}

type Page = (Vec<(Option<Name>, Arc<Inode>)>, bool);

fn shown(page: &Children) -> Page {
    (page.rows.clone(), page.more)
}

fn pages(view: &dyn View) -> Vec<Page> {
    let after = name(2);
    let mut out = Vec::new();
    for folder in FOLDERS {
        for (after, limit) in [(None, 2), (None, 10), (Some(&after), 3)] {
            out.push(shown(&view.children(InodeId(folder), after, limit)));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_are_what_the_rows_say(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut writer) = Store::open(folder.path(), &small()).unwrap();
        let mut model = MemoryView::new();
        let mut held: Vec<(Arc<StoreView>, Vec<Page>)> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let index = index as u64 + 1;
            let changes = changes(&model, step, index);
            writer.apply(Position { index, hash: index }, &changes);
            model.apply(changes);
            let view = store.view();
            prop_assert_eq!(pages(&*view), pages(&model));
            // Again, from what is kept.
            prop_assert_eq!(pages(&*view), pages(&model));
            held.push((view, pages(&model)));
            // Older views show what was, though newer pages are kept by now.
            for (view, then) in &held {
                prop_assert_eq!(&pages(&**view), then);
            }
        }
    }
}

/// Deletions in one folder are none of another's business.
#[test]
fn a_listing_passes_over_nothing_that_was_deleted_elsewhere() {
    const DELETED: u64 = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { write_buffer_bytes: 64 << 20, ..small() };
    let (store, mut writer) = Store::open(folder.path(), &config).unwrap();
    let mut all = Changes::new();
    put(1, 0, 10, 1, &mut all);
    (0..DELETED).for_each(|number| put(2, number, 100 + number, 1, &mut all));
    writer.apply(Position { index: 1, hash: 1 }, &all);
    let gone = all
        .into_keys()
        .filter(|key| matches!(key, Key::Entry(InodeId(2), _)))
        .map(|key| (key, None))
        .collect();
    writer.apply(Position { index: 2, hash: 2 }, &gone);
    let view = store.view();
    let mut context = PerfContext::default();
    context.reset();
    set_perf_stats(PerfStatsLevel::EnableCount);
    let page = view.children(InodeId(1), None, 10);
    let skipped = context.metric(PerfMetric::InternalDeleteSkippedCount);
    set_perf_stats(PerfStatsLevel::Disable);
    assert_eq!((page.rows.len(), page.more), (1, false));
    assert!(skipped < DELETED / 100, "{skipped} deletions were passed over");
}
