//! The Hadoop RPC server loop
