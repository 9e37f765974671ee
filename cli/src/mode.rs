//! Permissions as people write them.

use std::fmt;

const ALL_BITS: u16 = 0o1777;

/// Reads an octal mode of up to four digits.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_octal(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= ALL_BITS && !text.starts_with('+'))
        .ok_or_else(|| format!("`{text}` is not a mode: write octal digits such as 750 or 1777"))
}

/// What `chmod` does to a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// Sets all bits.
    Absolute(u16),
    /// Changes some, one clause after the other.
    Symbolic(Vec<Clause>),
}

/// One clause such as `go-w`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The bits that the clause may touch.
    who: u16,
    op: Op,
    /// The named permissions, for everybody; cut to `who`.
    bits: u16,
    /// `X`: execute only for folders and what somebody may execute already.
    conditional_execute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Remove,
    Set,
}

impl ModeChange {
    /// Reads `750`, `u+rwx`, `go-w,u=rw`, `+t`, `a+X`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return parse_octal(text).map(Self::Absolute);
        }
        text.split(',')
            .map(|clause| Clause::parse(clause, text))
            .collect::<Result<_, _>>()
            .map(Self::Symbolic)
    }

    /// The mode that comes of `mode`.
    #[must_use]
    pub fn apply(&self, mode: u16, directory: bool) -> u16 {
        match self {
            Self::Absolute(bits) => *bits,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory))
            }
        }
    }
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(bits) => write!(f, "{bits:o}"),
            Self::Symbolic(_) => f.write_str("symbolic"),
        }
    }
}

impl Clause {
    fn parse(clause: &str, whole: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{whole}` is not a mode: write octal digits (750) or clauses such as u+rwx,go-w,a=rX,+t")
        };
        let at = clause.find(['+', '-', '=']).ok_or_else(wrong)?;
        let (people, rest) = clause.split_at(at);
        let mut who = 0;
        for letter in people.chars() {
            who |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return Err(wrong()),
            };
        }
        if who == 0 {
            who = 0o777;
        }
        let op = match rest.as_bytes()[0] {
            b'+' => Op::Add,
            b'-' => Op::Remove,
            _ => Op::Set,
        };
        let (mut bits, mut sticky, mut conditional_execute) = (0, 0, false);
        for letter in rest[1..].chars() {
            match letter {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= 0o111,
                'X' => conditional_execute = true,
                't' => sticky = 0o1000,
                _ => return Err(wrong()),
            }
        }
        Ok(Self { who: who | sticky, op, bits: bits | sticky, conditional_execute })
    }

    fn apply(&self, mode: u16, directory: bool) -> u16 {
        let mut bits = self.bits;
        if self.conditional_execute && (directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let bits = bits & self.who;
        match self.op {
            Op::Add => mode | bits,
            Op::Remove => mode & !bits,
            Op::Set => (mode & !self.who) | bits,
        }
    }
}

/// `drwxr-xr-x`, with `t` or `T` at the end where the sticky bit is set.
#[must_use]
pub(crate) fn show(mode: u16, directory: bool) -> String {
    let mut text = String::with_capacity(10);
    text.push(if directory { 'd' } else { '-' });
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if (mode >> shift) & bit != 0 { letter } else { '-' });
        }
    }
    if mode & 0o1000 != 0 {
        let executable = text.pop() == Some('x');
        text.push(if executable { 't' } else { 'T' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_modes() {
        assert_eq!(ModeChange::parse("1777").unwrap().apply(0, true), 0o1777);
        assert_eq!(parse_octal("750"), Ok(0o750));
        for text in ["8", "", "+7", "20000", "99999999"] {
            assert!(parse_octal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn symbolic_modes() {
        let apply = |text: &str, mode, directory| ModeChange::parse(text).unwrap().apply(mode, directory);
        assert_eq!(apply("u+x", 0o644, false), 0o744);
        assert_eq!(apply("go-rwx", 0o755, false), 0o700);
        assert_eq!(apply("u=rw,g=r,o=", 0o777, false), 0o640);
        assert_eq!(apply("a+X", 0o644, false), 0o644);
        assert_eq!(apply("a+X", 0o644, true), 0o755);
        assert_eq!(apply("+t", 0o777, true), 0o1777);
        assert_eq!(apply("-t", 0o1777, true), 0o777);
        assert_eq!(apply("=r", 0o777, false), 0o444);
        for text in ["", "u", "z+x", "u+q", "u+x,", "rwx"] {
            assert!(ModeChange::parse(text).unwrap_err().contains("is not a mode"), "{text}");
        }
    }

    #[test]
    fn modes_are_shown_as_ls_shows_them() {
        assert_eq!(show(0o755, true), "drwxr-xr-x");
        assert_eq!(show(0o640, false), "-rw-r-----");
        assert_eq!(show(0o1777, true), "drwxrwxrwt");
        assert_eq!(show(0o1770, true), "drwxrwx--T");
    }
}
