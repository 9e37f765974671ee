//! The rules of the namespace and of its blocks.
//!
//! A [`Command`] is planned against a [`View`] of what is stored: the plan is a set of after-images ([`Changes`]), a
//! [`Reply`] and [`Effect`]s on blocks. Applying a plan cannot fail and needs no rules. Nothing here does I/O, reads a
//! clock, draws at random, spawns, or depends on the order of a hash map: time, new ids and seeds are arguments, so the
//! same command over the same view gives the same plan everywhere.

pub mod acl;
pub mod blocks;
pub mod command;
pub mod event;
pub mod locality;
pub mod locks;
pub mod memory;
pub mod namespace;
pub mod placement;
pub mod policy;
pub mod record;
pub mod tx;
pub mod view;

pub use command::{Caller, Command, Context, Effect, Outcome, Reply, Settings};
pub use memory::MemoryView;
pub use record::{Key, Record};
pub use tx::{Changes, Tx};
pub use view::{Children, View};
