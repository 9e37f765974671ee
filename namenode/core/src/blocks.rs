//! Replicas, datanodes, replication work and safe mode.
