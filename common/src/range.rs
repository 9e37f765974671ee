//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of IP addresses in CIDR form, such as `10.244.3.0/24`: those whose first bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpRange {
    first: IpAddr,
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoIpRange;

impl fmt::Display for NoIpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no range of addresses such as 10.244.3.0/24")
    }
}

impl std::error::Error for NoIpRange {}

/// Its first `bits` bits, the others zero; none if it has not so many.
fn masked(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.into())?).unwrap_or(0);
            Some(IpAddr::V4((ip.to_bits() & mask).into()))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
            Some(IpAddr::V6((ip.to_bits() & mask).into()))
        }
    }
}

impl IpRange {
    /// The lowest address in it.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn holds(self, ip: IpAddr) -> bool {
        masked(ip, self.bits) == Some(self.first)
    }
}

impl FromStr for IpRange {
    type Err = NoIpRange;

    fn from_str(text: &str) -> Result<Self, NoIpRange> {
        let (ip, bits) = text.split_once('/').ok_or(NoIpRange)?;
        let (ip, bits) =
            (ip.parse::<IpAddr>().map_err(|_| NoIpRange)?, bits.parse::<u8>().map_err(|_| NoIpRange)?);
        masked(ip, bits).map(|first| Self { first, bits }).ok_or(NoIpRange)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_begins_as_it() {
        for (range, inside, outside) in [
            ("10.244.3.0/24", "10.244.3.255", "10.244.4.0"),
            ("10.244.3.7/24", "10.244.3.0", "10.244.2.255"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("fd00::/64", "fd00::ffff", "fd00:0:0:1::"),
            ("::/0", "ffff::", "0.0.0.0"),
        ] {
            let parsed: IpRange = range.parse().unwrap();
            assert!(parsed.holds(inside.parse().unwrap()), "{range}");
            assert!(!parsed.holds(outside.parse().unwrap()), "{range}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "x/8", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<IpRange>(), Err(NoIpRange), "{text}");
        }
    }
}
