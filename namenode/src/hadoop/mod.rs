//! The Hadoop RPC door.
