//! Waits that end when the program that waits is told to stop.
//!
//! The kernel tells when a waiting program gets a signal, whichever. Calls on files are not ended by signals on other file
//! systems, only by those that end the program; so its pending signals are looked at, and the answer is EINTR if one of them
//! does. A program whose number is not known here (one of a container, mounted from another) gets that answer when it still
//! waits [`UNSEEN`] after a signal.

use std::future::Future;
use std::time::Duration;

use fuser::Errno;

use crate::errno::Answer;
use crate::kernel::Interrupted;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long the call of a program that cannot be looked at goes on after a signal.
const UNSEEN: Duration = Duration::from_secs(10);
/// HUP, INT, QUIT, KILL, TERM, XCPU: what is sent to end something. Not ALRM: programs that set an alarm do not expect that it
/// ends calls on files.
const ENDING: u64 = bit(1) | bit(2) | bit(3) | bit(9) | bit(15) | bit(24);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// What ends a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Any signal: waits without a bound, such as for locks.
    None,
    /// A signal that ends the program.
    UntilEnd,
    /// The same, as far as it can be seen: what a program would take for lost if it were told of a signal.
    UntilSeenEnd,
}

/// Waits for `work`, at most until the thread `caller` is told to stop. What `work` began may go on.
pub(crate) async fn interruptible<T>(
    (caller, patience): (u32, Patience),
    interrupted: &Interrupted,
    work: impl Future<Output = Answer<T>>,
) -> Answer<T> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = interrupted.told() => {}
    }
    match (patience, caller) {
        (Patience::None, _) => return Err(Errno::EINTR),
        (Patience::UntilSeenEnd, 0) => return work.await,
        (Patience::UntilEnd, 0) => {
            return tokio::time::timeout(UNSEEN, work).await.unwrap_or(Err(Errno::EINTR));
        }
        _ => {}
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

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_what_it_should() {
        let running = crate::kernel::Running::default();
        let slow = || async {
            tokio::time::sleep(UNSEEN * 2).await;
            Ok(7)
        };
        // This thread has no ending signal; thread 0 cannot be looked at.
        let here = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        for (thread, patience, expected) in [
            (here, Patience::UntilEnd, Ok(7)),
            (here, Patience::None, Err(Errno::EINTR.code())),
            (0, Patience::UntilEnd, Err(Errno::EINTR.code())),
            (0, Patience::UntilSeenEnd, Ok(7)),
        ] {
            let interrupted = running.begin(2);
            assert!(running.interrupt(2));
            let done = interruptible((thread, patience), &interrupted, slow()).await;
            assert_eq!(done.map_err(|errno| errno.code()), expected, "{thread} {patience:?}");
        }
        let quiet = running.begin(4);
        let done = interruptible((0, Patience::None), &quiet, slow()).await;
        assert_eq!(done.ok(), Some(7));
    }
}
