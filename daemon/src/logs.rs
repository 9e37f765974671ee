//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. The environment variable `STEADFS_LOG` says what is logged
/// (`debug`, `steadfs_namenode=trace,info`, …); without it, `default` does. Later calls change nothing.
pub fn init(default: &str) {
    let chosen = std::env::var("STEADFS_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = chosen.unwrap_or_else(|| EnvFilter::new(default));
    // A second call (tests) finds a subscriber in place, which is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
