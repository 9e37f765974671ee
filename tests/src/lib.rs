//! The cluster in one process, faults, and conformance through real clients
