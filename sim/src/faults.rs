//! What goes wrong, and when.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::client;
use crate::datanode::{self, Stop};
use crate::disk::Trouble;
use crate::exec::OUTSIDE;
use crate::machine;
use crate::net::Place;
use crate::random::Random;
use crate::verdict;
use crate::world::{Shared, World};

/// For so long things go wrong.
pub const FAULTS_FOR: Duration = Duration::from_secs(110);
/// Two faults that take replicas away for good lie so far apart: in between they are made again.
const BETWEEN_LOSSES: Duration = Duration::from_secs(60);
const TEN_MINUTES: u64 = 600_000;

fn secs(random: &Random, first: u64, last: u64) -> Duration {
    random.span(Duration::from_secs(first), Duration::from_secs(last))
}

/// Begins to let things go wrong; ends with everything mended.
pub fn start(world: &Shared) {
    let world = world.clone();
    world.clone().exec.spawn(OUTSIDE, async move {
        // What this run suffers from: not everything at once, so that each has its turn alone too.
        let kinds: Vec<u64> = (0..KINDS).filter(|_| world.random.chance(40)).collect();
        let mut lost_at = None;
        world.exec.sleep(secs(&world.random, 3, 12)).await;
        while world.exec.now() < FAULTS_FOR {
            if !kinds.is_empty() {
                inject(&world, *world.random.pick(&kinds), &mut lost_at);
            }
            world.exec.sleep(secs(&world.random, 1, 9)).await;
        }
        mend(&world);
    });
}

/// Everything goes well from now on.
fn mend(world: &Shared) {
    world.note(|| "all goes well from now on".into());
    world.net.heal();
    machine::fail_disk(None);
    machine::fail_power_after(None);
    world.quiet.set(true);
    for place in places(world) {
        if let Some(life) = world.net.life(place) {
            world.exec.pause(life, false);
        }
    }
    world.start_namenode();
    for number in 0..world.datanodes.len() {
        // A disk that had failed is exchanged for one that works, with the same files: what could not be synced is not
        // trusted until then.
        let broken = world.datanodes[number].borrow().running.as_ref().is_some_and(|running| {
            running.disk.fail_power_after(None);
            running.disk.make_good();
            running.disk.is_off()
                || running.disk.has_failed()
                || !running.core.borrow().store().failures().is_empty()
        });
        datanode::trouble(world, number, Trouble::None);
        if broken {
            datanode::stop(world, number, Stop::Kill);
        }
        datanode::start(world, number);
    }
}

fn places(world: &World) -> Vec<Place> {
    let datanodes = (0..world.datanodes.len()).map(Place::Datanode);
    let clients = (0..world.trees.len()).map(Place::Client);
    std::iter::once(Place::Namenode).chain(datanodes).chain(clients).collect()
}

/// The last two are the same: it can be done seldom enough.
const KINDS: u64 = 19;

fn inject(world: &Shared, kind: u64, lost_at: &mut Option<Duration>) {
    let random = &world.random;
    let node = random.below(world.datanodes.len() as u64) as usize;
    match kind {
        0 => stop_for_a_while(world, node, Stop::Kill),
        1 => stop_for_a_while(world, node, Stop::Power),
        2 => {
            world.stop_namenode(false);
            start_namenode_later(world);
        }
        3 => {
            world.stop_namenode(true);
            start_namenode_later(world);
        }
        // In the middle of what it writes.
        4 => {
            machine::fail_power_after(Some(random.below(20)));
            start_namenode_later(world);
        }
        5 => all_off(world),
        6 => partition(world),
        7 => world.net.weather(random.below(40), random.below(80)),
        8 => {
            let place = *random.pick(&places(world));
            world.note(|| format!("{place} is slow"));
            world.net.slow(place, true);
            let net = world.net.clone();
            world.exec.after(secs(random, 5, 30), move || net.slow(place, false));
        }
        9 => pause(world),
        10 => {
            let number = random.below(world.trees.len() as u64) as usize;
            client::kill(world, number);
        }
        11 => fail_second_journal(world),
        12 => {
            // The second disk says yes to syncs and keeps nothing; then the power fails.
            let root = world.namenode.borrow().root.join("b");
            world.note(|| "nn: its second disk lies".into());
            machine::lie_about(&root);
            let later = world.clone();
            world.exec.after(secs(random, 1, 10), move || {
                later.stop_namenode(true);
                start_namenode_later(&later);
            });
        }
        13 => {
            let off = *random.pick(&[TEN_MINUTES, 0_u64.wrapping_sub(TEN_MINUTES), 0]);
            world.note(|| format!("nn: its clock is off by {} ms", off.cast_signed()));
            world.set_clock(off);
        }
        14 => disk_trouble(world, node),
        15 => power_fails_while_it_writes(world, node),
        16 => lie(world, node),
        _ => lose_replicas(world, node, lost_at),
    }
}

fn start_namenode_later(world: &Shared) {
    let later = world.clone();
    world.exec.after(secs(&world.random, 1, 14), move || later.start_namenode());
}

fn start_later(world: &Shared, number: usize, wait: Duration) {
    let later = world.clone();
    world.exec.after(wait, move || datanode::start(&later, number));
}

fn stop_for_a_while(world: &Shared, number: usize, how: Stop) {
    datanode::stop(world, number, how);
    // Now and then longer than it takes to count as dead.
    let wait = if world.random.chance(70) { secs(&world.random, 1, 15) } else { secs(&world.random, 20, 50) };
    start_later(world, number, wait);
}

/// The power fails everywhere at once.
fn all_off(world: &Shared) {
    world.note(|| "the power fails everywhere".into());
    for number in 0..world.datanodes.len() {
        datanode::stop(world, number, Stop::Power);
        start_later(world, number, secs(&world.random, 1, 12));
    }
    world.stop_namenode(true);
    start_namenode_later(world);
}

fn partition(world: &Shared) {
    let random = &world.random;
    let places = places(world);
    let (one, both) = (*random.pick(&places), random.chance(60));
    let others: Vec<Place> = if random.chance(50) {
        places.iter().copied().filter(|place| *place != one).collect()
    } else {
        vec![*random.pick(&places)]
    };
    world.note(|| format!("{one} is cut off from {others:?}, both ways: {both}"));
    for other in &others {
        world.net.cut(one, *other, true);
        if both {
            world.net.cut(*other, one, true);
        }
    }
    let net = world.net.clone();
    world.exec.after(secs(random, 2, 35), move || {
        for other in others {
            net.cut(one, other, false);
            net.cut(other, one, false);
        }
    });
}

fn pause(world: &Shared) {
    let running: Vec<Place> = places(world)
        .into_iter()
        .filter(|place| !matches!(place, Place::Client(_)) && world.net.life(*place).is_some())
        .collect();
    if running.is_empty() {
        return;
    }
    let place = *world.random.pick(&running);
    let Some(life) = world.net.life(place) else { return };
    world.note(|| format!("{place} is paused"));
    world.exec.pause(life, true);
    let exec = world.exec.clone();
    world.exec.after(secs(&world.random, 2, 32), move || exec.pause(life, false));
}

fn fail_second_journal(world: &Shared) {
    let root = world.namenode.borrow().root.join("b");
    let error = if world.random.chance(50) { Errno::IO } else { Errno::NOSPC };
    world.note(|| format!("nn: its second disk fails: {error}"));
    machine::fail_disk(Some((&root, error)));
    world.exec.after(secs(&world.random, 3, 30), || machine::fail_disk(None));
}

fn disk_trouble(world: &Shared, number: usize) {
    let kind = *world.random.pick(&[Trouble::Broken, Trouble::OneSync, Trouble::Full, Trouble::Full]);
    datanode::trouble(world, number, kind);
    let later = world.clone();
    world.exec.after(secs(&world.random, 2, 25), move || {
        datanode::trouble(&later, number, Trouble::None);
        if kind == Trouble::Broken {
            // The disk works again, and the datanode is started anew.
            datanode::stop(&later, number, Stop::Kill);
            start_later(&later, number, Duration::from_secs(2));
        }
    });
}

fn power_fails_while_it_writes(world: &Shared, number: usize) {
    let Some(running) = world.datanodes[number].borrow().running.clone() else { return };
    let operations = world.random.below(60);
    world.note(|| format!("dn{number}: the power fails after {operations} operations"));
    running.disk.fail_power_after(Some(operations));
}

/// Replicas of one datanode go for good, where each has another good copy.
fn lose_replicas(world: &Shared, number: usize, lost_at: &mut Option<Duration>) {
    let now = world.exec.now();
    if lost_at.is_some_and(|at| now < at + BETWEEN_LOSSES) || !verdict::is_spare(world, number) {
        return;
    }
    match world.random.below(4) {
        0 => {
            datanode::stop(world, number, Stop::Kill);
            datanode::wipe(world, number);
        }
        1 | 2 => {
            // A copy is taken now and put back later, if all is spare then too.
            datanode::stop(world, number, Stop::Power);
            datanode::keep_copy(world, number);
            let later = world.clone();
            world.exec.after(secs(&world.random, 15, 40), move || {
                if !later.quiet.get() && verdict::is_spare(&later, number) {
                    datanode::stop(&later, number, Stop::Kill);
                    datanode::put_back(&later, number);
                    start_later(&later, number, secs(&later.random, 1, 20));
                }
            });
        }
        _ => rot(world, number),
    }
    *lost_at = Some(now);
    start_later(world, number, secs(&world.random, 1, 30));
}

/// The disk of one datanode says yes to syncs and keeps nothing, until the power fails at a moment when that is to be borne.
fn lie(world: &Shared, number: usize) {
    datanode::trouble(world, number, Trouble::Lying);
    let world = world.clone();
    world.clone().exec.spawn(OUTSIDE, async move {
        world.exec.sleep(secs(&world.random, 3, 20)).await;
        while !world.quiet.get() && !verdict::is_spare(&world, number) {
            world.exec.sleep(secs(&world.random, 1, 3)).await;
        }
        if !world.quiet.get() {
            datanode::stop(&world, number, Stop::Power);
            start_later(&world, number, secs(&world.random, 1, 20));
        }
    });
}

/// A byte of a finalized replica flips.
fn rot(world: &Shared, number: usize) {
    let Some(running) = world.datanodes[number].borrow().running.clone() else { return };
    let mut files = Vec::new();
    find_blocks(running.disk.root(), &mut files);
    files.sort();
    if files.is_empty() {
        return;
    }
    let path = world.random.pick(&files);
    let Ok(mut bytes) = fs::read(path) else { return };
    let at = world.random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << world.random.below(8);
    world.note(|| format!("dn{number}: byte {at} of {:?} rots", path.file_name()));
    // The same file, as a bad sector would have it.
    let _ = fs::write(path, bytes);
    drop::<Rc<_>>(running);
}

fn find_blocks(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(items) = fs::read_dir(folder) else { return };
    for item in items.flatten() {
        let path = item.path();
        let name = item.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "rbw" | "tmp") {
                find_blocks(&path, found);
            }
        } else if name.starts_with("blk_")
            && !name.ends_with(".meta")
            && item.metadata().is_ok_and(|meta| meta.len() > 0)
        {
            found.push(path);
        }
    }
}
