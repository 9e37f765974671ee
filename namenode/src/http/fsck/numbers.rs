//! Numbers as Java prints them.

/// A `float` as Java's string of it: shortest digits, at least one after the point, an exponent outside 0.001 to 10^7.
pub(super) fn float(value: f32) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) || !value.is_finite() {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

/// A share in percent, in `float` arithmetic.
pub(super) fn percent(part: u64, whole: u64) -> f32 {
    (part as f32 * 100.0) / whole as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_javas() {
        for (value, text) in [
            (0.0, "0.0"),
            (100.0, "100.0"),
            (percent(5, 11), "45.454544"),
            (7.0 / 3.0, "2.3333333"),
            (1.477_713_3e-5, "1.4777133E-5"),
            (2e7, "2.0E7"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
