//! The store as its users see it.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod alone;
mod crash;
mod faults;
mod fixture;
mod folders;
mod golden;
mod hot;
mod lacking;
mod matrix;
mod model;
mod packets;
mod recovery;
mod restart;
mod shortage;
mod states;
mod worn;
