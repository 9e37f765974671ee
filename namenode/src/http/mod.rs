//! The HTTP door: the status page. Metrics and health are the daemon's own.

mod page;
