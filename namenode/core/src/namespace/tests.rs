//! Tests of the rules. Each file is about one group of them; [`world`] is what they stand on.

mod acls;
mod attributes;
mod concats;
mod deletes;
mod events;
mod files;
mod folders;
mod follower;
mod inode_paths;
mod kept;
mod leases;
mod losses;
mod model;
mod quotas;
mod reads;
mod renames;
mod replaces;
mod retries;
mod synthetic;
mod truncates;
mod world;
mod xattrs;
