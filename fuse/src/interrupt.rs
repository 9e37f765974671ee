//! Waits that end when the program that waits is told to stop.
//!
//! The kernel sends an interrupt request when a waiting program gets a signal, which fuser answers by itself (with "not
//! known") and does not pass on; after that the kernel waits for the answer whatever happens. So who waits long here looks
//! at the program's pending signals, and answers EINTR.

use std::future::Future;
use std::time::Duration;

use fuser::Errno;

use crate::errno::Answer;

/// A wait so long is looked at.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// HUP, INT, QUIT, KILL, TERM, XCPU: what is sent to end something. Not ALRM: programs that set an alarm do not expect that it
/// ends calls on files.
const ENDING: u64 = bit(1) | bit(2) | bit(3) | bit(9) | bit(15) | bit(24);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Waits for `work`, at most until the thread `caller` has a signal pending that means to end it. What `work` began may go on.
pub(crate) async fn interruptible<T>(caller: u32, work: impl Future<Output = Answer<T>>) -> Answer<T> {
    let mut work = std::pin::pin!(work);
    // 0: a kernel thread, or a program of a PID namespace that is not below ours.
    if caller == 0 {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    loop {
        if is_told_to_stop(caller) {
            return Err(Errno::EINTR);
        }
        if let Ok(done) = tokio::time::timeout(LOOK, &mut work).await {
            return done;
        }
    }
}

/// `/proc` is memory: reading it does not block.
fn is_told_to_stop(thread: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{thread}/status")).is_ok_and(|status| has_ending_signal(&status))
}

fn has_ending_signal(status: &str) -> bool {
    let mask = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn") & ENDING != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tx\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n"
        )
    }

    #[test]
    fn only_signals_that_end_a_program_count() {
        assert!(has_ending_signal(&status(bit(2), 0, 0, 0)));
        assert!(has_ending_signal(&status(0, bit(9), 0, 0)));
        assert!(!has_ending_signal(&status(0, bit(17) | bit(20) | bit(23), 0, 0)));
        assert!(!has_ending_signal(&status(bit(2), 0, bit(2), 0)));
        assert!(!has_ending_signal(&status(bit(2), 0, 0, bit(2))));
        assert!(!has_ending_signal(""));
    }

    #[tokio::test]
    async fn a_wait_goes_on_for_who_is_not_told_to_stop() {
        let work = async {
            tokio::time::sleep(PATIENCE * 2).await;
            Ok(7)
        };
        assert_eq!(interruptible(std::process::id(), work).await.ok(), Some(7));
    }
}
