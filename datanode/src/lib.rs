//! The datanode: data server, write pipeline, reports and replication work
