//! Times as Java's `Date` writes them, which stock tools show as they come.

use steadfs_common::Millis;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sat Nov 21 05:35:08 UTC 2026`.
pub(crate) fn java_date(time: Millis) -> String {
    let seconds = time.0 / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[(days % 7) as usize],
        MONTHS[month],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month from 0 and day from 1 of a count of days since 1970.
const fn civil(days: u64) -> (u64, usize, u64) {
    // Years that begin in March, so that the leap day is the last: 400 of them have 146,097 days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + (from_march >= 10) as u64;
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_javas() {
        for (seconds, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_827_696, "Tue Feb 29 12:34:56 UTC 2000"),
            (1_709_251_199, "Thu Feb 29 23:59:59 UTC 2024"),
            (1_795_239_308, "Sat Nov 21 05:35:08 UTC 2026"),
            (4_107_542_399, "Sun Feb 28 23:59:59 UTC 2100"),
        ] {
            assert_eq!(java_date(Millis(seconds * 1_000)), text);
        }
    }
}
