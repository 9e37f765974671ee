//! A progress bar where a person watches.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(200);

/// How far a transfer is. Draws on standard error, and only if that is a terminal.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// For `bytes` in `files` files; no length is known for standard input (`None`).
    pub(crate) fn new(bytes: Option<u64>, files: usize, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = match bytes {
            Some(_) => "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}  {msg}",
            None => "{spinner} {bytes}  {bytes_per_sec}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("our own template is right"));
        bar.set_message(if files == 1 { "1 file".to_owned() } else { format!("{files} files") });
        bar.enable_steady_tick(REDRAW);
        Self { bar }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes the bar away, so that nothing is between what is printed.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
