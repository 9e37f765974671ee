//! The namenode: journal, store, commit loop, service and doors.
//!
//! Owns what the namespace is on disk and who may ask for it. It holds no rule of the namespace: those are in
//! `steadfs-namenode-core`.
//!
//! Invariants:
//! * One thread changes the namespace (`commit`); no answer leaves before its journal entry is on every copy.
//! * A sync or a store that failed ends the process ([`fatal`]): nothing is tried again on a disk that lied once.
//! * Doors translate and call [`service::Service`]; none knows another.

pub mod backup;
pub mod blocks;
mod commit;
pub mod config;
mod dates;
pub(crate) mod events;
pub mod fatal;
pub mod grpc;
pub mod hadoop;
pub mod http;
mod identity;
pub mod inline;
pub mod journal;
pub mod kubernetes;
pub mod locality;
pub(crate) mod locks;
pub mod offline;
mod run;
pub mod service;
pub mod store;
pub mod upkeep;

pub use config::NamenodeConfig;
pub use config::NamenodeConfig as Config;
pub use identity::Identity;
pub use run::{Namenode, run};
