//! Hadoop RPC frames, data-transfer packets, and URLs and errors of WebHDFS: bytes in, bytes out

pub mod rpc;
pub mod token;
pub mod transfer;
pub mod webhdfs;
