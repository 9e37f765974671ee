//! Telling the namenode that a copy will not come. What it does not hear it waits for, for minutes: so it is told again where
//! that may help.

use std::time::Duration;

use steadfs_common::FsError;
use steadfs_proto::steadfs as pb;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::commands::{Key, Shared};
use super::reports::may_pass;
use super::{CALL_TIMEOUT, RETRY_FIRST, RETRY_MOST, call};

/// How often one failure is told at most, and for how long.
const MAX_TRIES: usize = 32;
const TELL_FOR: Duration = Duration::from_secs(120);
/// Failures that are told again at the same time; the others are told once.
const MAX_TOLD_AGAIN: usize = 1_024;

/// Places of those that are told again.
pub(super) fn places() -> Semaphore {
    Semaphore::new(MAX_TOLD_AGAIN)
}

impl Shared {
    /// Tells that the copy of `key` failed, until that is heard, or is out of date since the same copy was ordered again. A
    /// namenode that has begun anew meanwhile waits for no copy, and passes it over.
    pub(super) async fn tell_failed(&self, key: Key, failed: pb::CopyFailedRequest) {
        let begun = Instant::now();
        let Err(mut error) = self.try_to_tell(&failed).await else { return };
        let place = self.told_again.try_acquire();
        let mut wait = RETRY_FIRST;
        let mut tries = 1;
        while place.is_ok() && may_pass(&error) && tries < MAX_TRIES && begun.elapsed() < TELL_FOR {
            sleep(wait).await;
            if self.is_busy(key) {
                return;
            }
            match self.try_to_tell(&failed).await {
                Ok(_) => return,
                Err(again) => error = again,
            }
            (tries, wait) = (tries + 1, (wait * 2).min(RETRY_MOST));
        }
        let block = failed.block.map_or(0, |block| block.id);
        tracing::info!(block, tries, %error, "that a copy failed could not be told; the namenode will find out by itself");
    }

    async fn try_to_tell(&self, failed: &pb::CopyFailedRequest) -> Result<pb::Empty, FsError> {
        call(CALL_TIMEOUT, self.client().copy_failed(failed.clone())).await
    }
}
