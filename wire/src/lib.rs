//! Hadoop RPC frames and data-transfer packets: bytes in, bytes out

pub mod rpc;
pub mod transfer;
