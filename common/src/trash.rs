//! Where what was thrown away lies, and how the time at which it was put aside is told.
//!
//! `/user/<name>/.Trash/Current` takes it; at a checkpoint that becomes `/user/<name>/.Trash/<yyMMddHHmmss>`, in UTC.
//!
//! Stock clients name their checkpoints by local time, which may be half a day behind. So a name is believed only if the
//! folder's modification time is the same to the millisecond, as SteadFS sets it; all others are kept for that half day longer.

use std::time::Duration;

use crate::dates::{civil, days};
use crate::units::Millis;

/// The folder of all homes.
pub const HOMES: &str = "/user";
/// The trash in a home.
pub const TRASH: &str = ".Trash";
/// What was thrown away since the last checkpoint.
pub const CURRENT: &str = "Current";

/// Digits of a checkpoint's name. Old clients leave out the seconds.
const DIGITS: usize = 12;
const OLD_DIGITS: usize = 10;
/// Checkpoints have two digits for their year.
const CENTURY: u64 = 2_000;
const DAY_SECONDS: u64 = 86_400;

/// So far local time may be behind UTC.
const FARTHEST_WEST: Duration = Duration::from_secs(12 * 3_600);

/// The latest time at which a checkpoint may have been made whose name says `named`, and which was `modified` then.
#[must_use]
pub fn put_aside_by(named: Millis, modified: Millis) -> Millis {
    if named == modified { named } else { named.plus(FARTHEST_WEST) }
}

/// The name of a checkpoint made at this time.
#[must_use]
pub fn checkpoint_name(at: Millis) -> String {
    let seconds = at.0 / 1_000;
    let (year, month, day) = civil(seconds / DAY_SECONDS);
    let time = seconds % DAY_SECONDS;
    format!("{:02}{month:02}{day:02}{:02}{:02}{:02}", year % 100, time / 3_600, time / 60 % 60, time % 60)
}

/// When a checkpoint was made; none if the name is not that of one. Behind the digits anything may stand.
#[must_use]
pub fn checkpoint_time(name: &str) -> Option<Millis> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let parts = match digits {
        DIGITS.. => DIGITS / 2,
        OLD_DIGITS.. => OLD_DIGITS / 2,
        _ => return None,
    };
    let mut numbers = [0_u64; DIGITS / 2];
    for (index, number) in numbers.iter_mut().enumerate().take(parts) {
        *number = name.get(2 * index..2 * index + 2)?.parse().ok()?;
    }
    let [year, month, day, hour, minute, second] = numbers;
    let in_bounds =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !in_bounds {
        return None;
    }
    let days = days(CENTURY + year, month, day);
    // The 31st of a month with 30 days.
    (civil(days) == (CENTURY + year, month, day))
        .then(|| Millis((days * DAY_SECONDS + hour * 3_600 + minute * 60 + second) * 1_000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_tell_the_time() {
        let at = Millis(1_795_239_334_000);
        assert_eq!(checkpoint_name(at), "261121053534");
        assert_eq!(checkpoint_time("261121053534"), Some(at));
        assert_eq!(checkpoint_time("261121053534-7"), Some(at));
        assert_eq!(checkpoint_time("2611210535"), Some(Millis(at.0 - 34_000)));
        for odd in ["", "Current", "2611", "261321053534", "260231053534", "261121243534", "x61121053534"] {
            assert_eq!(checkpoint_time(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_second_comes_back(second in 946_684_800_u64..4_102_444_800) {
            let at = Millis(second * 1_000);
            prop_assert_eq!(checkpoint_time(&checkpoint_name(at)), Some(at));
        }

        #[test]
        fn no_name_panics(name in "\\PC*") {
            let _ = checkpoint_time(&name);
        }
    }
}
