//! Whether everything is as was promised.

use std::collections::{BTreeMap, BTreeSet};

use steadfs_common::{BlockId, FsResult, GenStamp};
use steadfs_datanode_store::{ReplicaState, ReplicaStatus};
use steadfs_namenode::inline::KnownBlock;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace as _;

use crate::datanode::read_block;
use crate::oracle::{File, Node};
use crate::reader::verified;
use crate::world::{Shared, by_user, plain};

/// Whether a datanode's disk holds a good and final replica.
fn holds(world: &Shared, number: usize, id: BlockId, stamp: GenStamp, length: u64) -> bool {
    let slot = world.datanodes[number].borrow();
    let Some(running) = &slot.running else { return false };
    let core = running.core.borrow();
    let is_final = core.store().status(id).is_some_and(|status| {
        status.state == ReplicaState::Finalized
            && (status.block.stamp, status.block.len) == (stamp, length)
            && !status.bad
    });
    is_final && read_block(&core, id, stamp).is_ok_and(|read| verified(&read).is_ok())
}

/// Whether everything on a datanode has a good copy elsewhere, and nothing on it is being written.
pub fn is_spare(world: &Shared, number: usize) -> bool {
    let held: BTreeSet<BlockId> = {
        let slot = world.datanodes[number].borrow();
        let Some(running) = &slot.running else { return false };
        let core = running.core.borrow();
        let store = core.store();
        let storages = store.volumes_in_service();
        if storages.is_empty() {
            return false;
        }
        let pages = storages.iter().flat_map(|storage| store.report_page(*storage, None, usize::MAX));
        pages.map(|replica| replica.block.id).collect()
    };
    let Ok(blocks) = world.look(async |namenode| Ok(namenode.known_blocks())) else { return false };
    let others = || (0..world.datanodes.len()).filter(|other| *other != number);
    blocks.iter().filter(|block| held.contains(&block.id)).all(|block| {
        let stamp = GenStamp(block.stamp);
        block.complete && others().any(|other| holds(world, other, block.id, stamp, block.length))
    })
}

/// What keeps the cluster from being whole: nothing, some time after the last fault.
pub fn unrest(world: &Shared) -> Vec<String> {
    let mut unrest = Vec::new();
    let looked = world.look(async |namenode| {
        Ok((namenode.known_blocks(), namenode.open_files(), namenode.service().safe_mode()))
    });
    let (blocks, open, safe_mode) = match looked {
        Ok(looked) => looked,
        Err(error) => return vec![format!("the namenode: {error}")],
    };
    unrest.extend(safe_mode.map(|why| format!("safe mode: {why}")));
    if open > 0 {
        unrest.push(format!("{open} files are open"));
    }
    let on_disks = on_disks(world, &mut unrest);
    for block in &blocks {
        check_block(block, &on_disks, world.datanodes.len(), &mut unrest);
    }
    let known: BTreeSet<BlockId> = blocks.iter().map(|block| block.id).collect();
    for (id, places) in &on_disks {
        if !known.contains(id) {
            unrest.push(format!("{id} of no file lies on {places:?}"));
        }
    }
    unrest
}

/// Of a block: which datanode has it under which stamp, in which length.
type OnDisks = BTreeMap<BlockId, BTreeMap<usize, (u64, u64)>>;

fn on_disks(world: &Shared, unrest: &mut Vec<String>) -> OnDisks {
    let mut found = OnDisks::new();
    for (number, slot) in world.datanodes.iter().enumerate() {
        let slot = slot.borrow();
        let Some(running) = &slot.running else {
            unrest.push(format!("dn{number} is not up"));
            continue;
        };
        if !running.checked.get() {
            // What rotted, or was lied about, is found by that at the latest.
            unrest.push(format!("dn{number} has not checked its replicas"));
        }
        let core = running.core.borrow();
        for storage in core.store().volumes_in_service() {
            for replica in core.store().report_page(storage, None, usize::MAX) {
                let block = replica.block;
                if replica.state != ReplicaState::Finalized {
                    unrest.push(format!("dn{number}: {} is {:?}", block.id, replica.state));
                } else if replica.bad {
                    unrest.push(format!("dn{number}: {} is bad", block.id));
                }
                found.entry(block.id).or_default().insert(number, (block.stamp.0, block.len));
            }
        }
    }
    found
}

fn check_block(block: &KnownBlock, on_disks: &OnDisks, nodes: usize, unrest: &mut Vec<String>) {
    let id = block.id;
    if !block.complete {
        unrest.push(format!("{id} is not complete"));
    }
    // Those of datanodes that are gone for good harm nobody.
    let bad: Vec<&str> = block
        .bad
        .iter()
        .filter(|location| location.node.live)
        .map(|location| location.node.host_name.as_str())
        .collect();
    if !bad.is_empty() {
        unrest.push(format!("{id} has bad replicas on {bad:?}"));
    }
    let wanted = usize::from(block.replication).min(nodes);
    if block.good.len() != wanted {
        unrest.push(format!("{id} has {} replicas of {wanted}", block.good.len()));
    }
    let number = |host: &str| host.strip_prefix("node-").and_then(|number| number.parse::<usize>().ok());
    let told: BTreeSet<usize> =
        block.good.iter().filter_map(|location| number(&location.node.host_name)).collect();
    let empty = BTreeMap::new();
    let there = on_disks.get(&id).unwrap_or(&empty);
    if told != there.keys().copied().collect() {
        let lives: Vec<_> =
            block.good.iter().map(|at| (&at.node.host_name, at.storage, at.node.live)).collect();
        unrest.push(format!("{id} is said to be on {told:?} ({lives:?}) and lies on {there:?}"));
    }
    if there.values().any(|found| *found != (block.stamp, block.length)) {
        unrest.push(format!("{id} should be {:?} and is {there:?}", (block.stamp, block.length)));
    }
}

/// Compares everything with what was promised. Everything must be up and whole.
pub fn judge(world: &Shared) {
    match world.look(async |namenode| namenode.problems().await) {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) => world.fail(format!("the namespace does not hold together: {problems:?}")),
        Err(error) => world.fail(format!("the namespace cannot be checked: {error}")),
    }
    for number in 0..world.trees.len() {
        judge_tree(world, number);
    }
}

fn judge_tree(world: &Shared, number: usize) {
    let folder = format!("/c{number}");
    let tree = world.trees[number].borrow().clone();
    let found = match everything_below(world, &folder) {
        Ok(found) => found,
        Err(error) => return world.fail(format!("{folder} cannot be listed: {error}")),
    };
    let wanted: Vec<&String> = tree.nodes.keys().collect();
    if found.keys().collect::<Vec<_>>() != wanted {
        let lost: Vec<_> = wanted.iter().filter(|path| !found.contains_key(**path)).collect();
        let more: Vec<_> = found.keys().filter(|path| !tree.nodes.contains_key(*path)).collect();
        return world.fail(format!("c{number}: lost {lost:?}, and there although it should not: {more:?}"));
    }
    for (path, node) in &tree.nodes {
        let status = &found[path];
        match node {
            Node::Folder if status.directory => {}
            Node::File(file) if !status.directory => {
                if let Err(why) = judge_file(world, path, file, status) {
                    world.fail(format!("{path}: {why}"));
                }
            }
            _ => world.fail(format!("{path} is not what it was made")),
        }
    }
}

fn everything_below(world: &Shared, folder: &str) -> FsResult<BTreeMap<String, pb::FileStatus>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let request = pb::StatRequest { path: folder.clone() };
        let status =
            world.look(async |namenode| plain(namenode.namespace().stat(by_user(request)).await))?.status;
        let Some(status) = status else { continue };
        if status.directory {
            let request = pb::ListRequest { path: folder.clone(), ..Default::default() };
            let listed =
                world.look(async |namenode| plain(namenode.namespace().list(by_user(request)).await))?;
            let names = listed.entries.into_iter().filter_map(|entry| entry.status);
            folders.extend(names.map(|status| format!("{folder}/{}", status.name)));
        }
        found.insert(folder, status);
    }
    Ok(found)
}

fn judge_file(world: &Shared, path: &str, file: &File, status: &pb::FileStatus) -> Result<(), String> {
    if status.under_construction {
        return Err("it is open".into());
    }
    let modes: Vec<u32> = file.mode.into_iter().chain(file.mode_in_doubt).collect();
    if file.mode.is_some() && !modes.contains(&status.mode) {
        return Err(format!("its mode is {:o}, set was {modes:?}", status.mode));
    }
    if status.replication != file.replication.0 && Some(status.replication) != file.replication.1 {
        return Err(format!("its replication is {}, set was {:?}", status.replication, file.replication));
    }
    let request = pb::OpenRequest { path: path.to_owned(), offset: 0, length: u64::MAX >> 1 };
    let opened = world
        .look(async |namenode| plain(namenode.namespace().open(by_user(request)).await))
        .map_err(|error| error.to_string())?;
    let blocks = opened.blocks.unwrap_or_default().blocks;
    let total: u64 = blocks.iter().filter_map(|located| located.block).map(|block| block.length).sum();
    if total != status.length {
        return Err(format!("it has {} bytes, its blocks {total}", status.length));
    }
    let mut bytes = Vec::new();
    for located in blocks {
        bytes.extend(one_and_all(world, located.block.unwrap_or_default())?);
    }
    file.check(&bytes)
}

/// A block's bytes, the same on every datanode that has it.
fn one_and_all(world: &Shared, block: pb::Block) -> Result<Vec<u8>, String> {
    let mut bytes: Option<Vec<u8>> = None;
    for (number, slot) in world.datanodes.iter().enumerate() {
        let slot = slot.borrow();
        let Some(running) = &slot.running else { continue };
        let core = running.core.borrow();
        // What is on its way is not there yet.
        let is_there = |status: ReplicaStatus| status.state != ReplicaState::Temporary;
        if !core.store().status(BlockId(block.id)).is_some_and(is_there) {
            continue;
        }
        let read = read_block(&core, BlockId(block.id), GenStamp(block.stamp))
            .map_err(|error| format!("block {} on dn{number}: {error}", block.id))?;
        let found = verified(&read).map_err(|error| format!("block {} on dn{number}: {error}", block.id))?;
        match &bytes {
            None => bytes = Some(found.to_vec()),
            Some(known) if known == found => {}
            Some(_) => return Err(format!("block {} is not the same on dn{number}", block.id)),
        }
    }
    match bytes {
        Some(bytes) if bytes.len() as u64 == block.length => Ok(bytes),
        Some(bytes) => Err(format!("block {} has {} bytes of {}", block.id, bytes.len(), block.length)),
        None if block.length == 0 => Ok(Vec::new()),
        None => Err(format!("block {} is nowhere", block.id)),
    }
}
