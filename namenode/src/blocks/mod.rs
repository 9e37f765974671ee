//! The owner of replicas and datanodes.
