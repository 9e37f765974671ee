//! The one way the namenode ends when it cannot go on safely.

use std::fmt;
use std::sync::OnceLock;

/// Called with the sentence before the process ends. A test's hook panics, which ends the thread instead.
pub type Hook = fn(&str);

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Sets what runs before the process ends; only the first call counts.
pub fn set_hook(hook: Hook) {
    let _ = HOOK.set(hook);
}

/// Ends the process: says what failed and what an operator can do. Nothing is flushed and no destructor runs, because
/// after a failed sync memory may be ahead of the disk and must not reach it.
pub fn end(failed: impl fmt::Display, remedy: impl fmt::Display) -> ! {
    let sentence = format!("{failed}. {remedy}");
    tracing::error!(target: "fatal", "the namenode ends: {sentence}");
    if let Some(hook) = HOOK.get() {
        hook(&sentence);
    }
    if cfg!(test) {
        panic!("the namenode ends: {sentence}");
    }
    eprintln!("the namenode ends: {sentence}");
    std::process::abort()
}
