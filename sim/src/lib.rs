//! The whole cluster in one thread, with seeded time, network, disks and faults.
//!
//! A namenode, some datanodes and some clients run as tasks of one thread ([`exec`]), which has its own clock. The namenode's
//! journal, store, commit thread, rules, soft state and doors are the real ones (`steadfs_namenode::inline`), on real files whose
//! syncs come by [`machine`]; of datanodes the store, the pipeline's state, reports, recovery and orders are
//! (`steadfs_datanode::inline`), on files that come by [`disk`]. Messages travel through [`net`]. [`faults`] lets things go wrong,
//! then all goes well again, and [`verdict`] compares what is there with what [`oracle`] knows to be promised.
//!
//! A seed decides everything: the same one gives the same run, event by event.

pub mod client;
pub mod datanode;
pub mod disk;
pub mod exec;
pub mod faults;
pub mod machine;
pub mod net;
pub mod oracle;
pub mod pipeline;
pub mod random;
pub mod reader;
pub mod run;
pub mod verdict;
pub mod world;
pub mod writer;
