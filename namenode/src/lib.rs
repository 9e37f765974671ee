//! The namenode: journal, store, commit loop, service and doors
