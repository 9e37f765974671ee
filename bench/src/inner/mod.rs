//! Hot paths, each prepared once and then run as often as one likes.

mod blocks;
mod door;
mod namespace;
mod replica;
mod wire;

use std::path::Path;

/// One run of a hot path.
pub type Run = Box<dyn FnMut()>;

/// A hot path.
pub struct Case {
    /// Its name, for people and in the file of expected counts.
    pub name: &'static str,
    /// What one run does.
    pub what: &'static str,
    prepare: fn(&Path) -> Run,
}

impl Case {
    /// Makes it ready; its files, if it has any, are in `folder`, which is empty.
    ///
    /// # Panics
    /// Something that it stands on does not work.
    #[must_use]
    pub fn prepare(&self, folder: &Path) -> Run {
        (self.prepare)(folder)
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    Case { name: "rpc-parse", what: "headers of 100 calls are read", prepare: wire::parse },
    Case { name: "rpc-answer", what: "100 answers are put into frames", prepare: wire::answer },
    Case {
        name: "packet-read",
        what: "16 packets of 64 KiB are taken off a buffer and verified",
        prepare: wire::packet_read,
    },
    Case {
        name: "packet-write",
        what: "checksums and heads of 16 packets of 64 KiB are made",
        prepare: wire::packet_write,
    },
    Case { name: "path", what: "100 paths of 8 names are checked", prepare: namespace::path },
    Case {
        name: "record",
        what: "100 inodes are written as bytes and read back",
        prepare: namespace::record,
    },
    Case {
        name: "resolve",
        what: "a path of 4 names is looked up 100 times in the cache",
        prepare: namespace::resolve,
    },
    Case {
        name: "plan-create",
        what: "100 creates are planned over the store",
        prepare: namespace::plan_create,
    },
    Case {
        name: "plan-mkdirs",
        what: "100 mkdirs are planned over the store",
        prepare: namespace::plan_mkdirs,
    },
    Case {
        name: "plan-rename",
        what: "100 renames are planned over the store",
        prepare: namespace::plan_rename,
    },
    Case {
        name: "plan-delete",
        what: "100 deletes are planned over the store",
        prepare: namespace::plan_delete,
    },
    Case { name: "apply", what: "the changes of 100 creates go to the store", prepare: namespace::apply },
    Case {
        name: "journal",
        what: "100 entries of 4 KiB are appended to two copies",
        prepare: namespace::journal,
    },
    Case { name: "door-stat", what: "100 getFileInfo from request to answer", prepare: door::stat },
    Case { name: "door-open", what: "100 getBlockLocations from request to answer", prepare: door::open },
    Case {
        name: "door-list",
        what: "100 getListing of 100 files from request to answer",
        prepare: door::list,
    },
    Case {
        name: "place",
        what: "targets of 100 blocks are chosen among 100 datanodes",
        prepare: blocks::place,
    },
    Case { name: "locate", what: "1,000 blocks of three replicas are located", prepare: blocks::locate },
    Case { name: "report", what: "a report of 10,000 replicas is compared", prepare: blocks::report },
    Case {
        name: "replica-write",
        what: "a replica of 1 MiB is written in packets of 64 KiB",
        prepare: replica::write,
    },
    Case {
        name: "replica-verify",
        what: "a replica of 1 MiB is read and verified",
        prepare: replica::verify,
    },
];

/// The case of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}
