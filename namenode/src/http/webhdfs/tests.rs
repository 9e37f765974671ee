//! The door over a whole namenode, by real requests.
