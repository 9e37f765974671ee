//! What is done.

use proptest::prelude::*;

/// Paths are made of few names, so that operations meet.
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];
/// Names of attributes.
const ATTRIBUTES: [&str; 2] = ["user.one", "user.two"];

/// One operation. Slots are counted among those that are open, around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Open {
        path: String,
        how: How,
        mode: u32,
    },
    Close(usize),
    Duplicate(usize),
    Read {
        slot: usize,
        length: usize,
    },
    Write {
        slot: usize,
        data: Data,
    },
    ReadAt {
        slot: usize,
        at: u64,
        length: usize,
    },
    WriteAt {
        slot: usize,
        at: u64,
        data: Data,
    },
    /// Through a shared mapping.
    WriteMapped {
        slot: usize,
        at: u64,
        data: Data,
    },
    Seek {
        slot: usize,
        from: From,
        by: i64,
    },
    SetLength {
        slot: usize,
        length: u64,
    },
    Reach {
        slot: usize,
        at: u64,
        length: u64,
    },
    Sync(usize),
    StatusOf(usize),
    ModeOf {
        slot: usize,
        mode: u32,
    },
    Status(String),
    Truncate {
        path: String,
        length: u64,
    },
    Rename {
        from: String,
        to: String,
        replace: bool,
    },
    Unlink(String),
    MakeFolder {
        path: String,
        mode: u32,
    },
    RemoveFolder(String),
    Mode {
        path: String,
        mode: u32,
    },
    Times {
        path: String,
        accessed: u64,
        modified: u64,
    },
    SetAttribute {
        path: String,
        name: &'static str,
        value: Vec<u8>,
        flag: Flag,
    },
    GetAttribute {
        path: String,
        name: &'static str,
    },
    RemoveAttribute {
        path: String,
        name: &'static str,
    },
    Attributes(String),
    List(String),
    ReadAll(String),
    /// The mount's server is killed.
    Kill,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    pub(super) access: Access,
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    pub(super) append: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Start,
    Here,
    End,
}

/// Whether an attribute must be there or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Any,
    Create,
    Replace,
}

/// Bytes to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) seed: u8,
    pub(super) length: usize,
}

impl Data {
    pub(super) fn bytes(self) -> Vec<u8> {
        (0..self.length).map(|index| (index * 31 + index / 251) as u8 ^ self.seed).collect()
    }
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(&NAMES[..]);
    prop_oneof![
        4 => name.clone().prop_map(String::from),
        3 => (name.clone(), name.clone()).prop_map(|(a, b)| format!("{a}/{b}")),
        1 => (name.clone(), name.clone(), name).prop_map(|(a, b, c)| format!("{a}/{b}/{c}")),
    ]
}

/// Lengths and places around what matters: nothing, pages, the kernel's requests, what is staged before it is streamed.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => 0..20_usize,
        4 => 0..10_000_usize,
        2 => 60_000..300_000_usize,
        1 => Just(1 << 20),
        1 => Just(9 << 20),
    ]
}

pub(super) fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        3 => 0..20_u64,
        4 => 0..20_000_u64,
        2 => 60_000..300_000_u64,
        1 => Just(5 << 20),
    ]
}

pub(super) fn data() -> impl Strategy<Value = Data> {
    (any::<u8>(), length()).prop_map(|(seed, length)| Data { seed, length })
}

fn how() -> impl Strategy<Value = How> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Both)];
    let rarely = || prop::bool::weighted(0.2);
    (access, prop::bool::weighted(0.7), rarely(), rarely(), rarely()).prop_map(
        |(access, create, exclusive, truncate, append)| How {
            access,
            create,
            exclusive: exclusive && create,
            truncate,
            append,
        },
    )
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o644), Just(0o600), Just(0o777), Just(0o000), Just(0o1755)]
}

/// Milliseconds: finer the cluster does not keep.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![1..2_000_000_000_000_u64, Just(1_000)]
}

fn on_handles(slot: impl Strategy<Value = usize> + Clone + 'static) -> impl Strategy<Value = Op> {
    let from = prop_oneof![Just(From::Start), Just(From::Here), Just(From::End)];
    prop_oneof![
        6 => slot.clone().prop_map(Op::Close),
        2 => slot.clone().prop_map(Op::Duplicate),
        4 => (slot.clone(), length()).prop_map(|(slot, length)| Op::Read { slot, length }),
        8 => (slot.clone(), data()).prop_map(|(slot, data)| Op::Write { slot, data }),
        4 => (slot.clone(), place(), length()).prop_map(|(slot, at, length)| Op::ReadAt { slot, at, length }),
        8 => (slot.clone(), place(), data()).prop_map(|(slot, at, data)| Op::WriteAt { slot, at, data }),
        3 => (slot.clone(), place(), data()).prop_map(|(slot, at, data)| Op::WriteMapped { slot, at, data }),
        3 => (slot.clone(), from, -30_000..30_000_i64).prop_map(|(slot, from, by)| Op::Seek { slot, from, by }),
        4 => (slot.clone(), place()).prop_map(|(slot, length)| Op::SetLength { slot, length }),
        1 => (slot.clone(), place(), 1..50_000_u64).prop_map(|(slot, at, length)| Op::Reach { slot, at, length }),
        3 => slot.clone().prop_map(Op::Sync),
        3 => slot.clone().prop_map(Op::StatusOf),
        1 => (slot, mode()).prop_map(|(slot, mode)| Op::ModeOf { slot, mode }),
    ]
}

fn on_paths() -> impl Strategy<Value = Op> {
    let flag = prop_oneof![3 => Just(Flag::Any), 1 => Just(Flag::Create), 1 => Just(Flag::Replace)];
    let name = || prop::sample::select(&ATTRIBUTES[..]);
    let value = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        4 => path().prop_map(Op::Status),
        3 => (path(), place()).prop_map(|(path, length)| Op::Truncate { path, length }),
        6 => (path(), path(), prop::bool::weighted(0.8)).prop_map(|(from, to, replace)| Op::Rename { from, to, replace }),
        4 => path().prop_map(Op::Unlink),
        5 => (path(), mode()).prop_map(|(path, mode)| Op::MakeFolder { path, mode }),
        2 => path().prop_map(Op::RemoveFolder),
        2 => (path(), mode()).prop_map(|(path, mode)| Op::Mode { path, mode }),
        2 => (path(), time(), time()).prop_map(|(path, accessed, modified)| Op::Times { path, accessed, modified }),
        1 => (path(), name(), value, flag).prop_map(|(path, name, value, flag)| Op::SetAttribute { path, name, value, flag }),
        1 => (path(), name()).prop_map(|(path, name)| Op::GetAttribute { path, name }),
        1 => (path(), name()).prop_map(|(path, name)| Op::RemoveAttribute { path, name }),
        1 => path().prop_map(Op::Attributes),
        2 => prop_oneof![Just(String::new()), path()].prop_map(Op::List),
        4 => path().prop_map(Op::ReadAll),
    ]
}

/// Any operation; kills only if wanted.
pub(super) fn operations(kills: bool) -> impl Strategy<Value = Op> {
    let kill = if kills { 6 } else { 0 };
    prop_oneof![
        25 => (path(), how(), mode()).prop_map(|(path, how, mode)| Op::Open { path, how, mode }),
        60 => on_handles(0..8_usize),
        45 => on_paths(),
        kill => Just(Op::Kill),
    ]
}
