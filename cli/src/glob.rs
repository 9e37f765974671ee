//! Globs on the remote side: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`, and `\` to take one of them as it is.

/// Alternatives that braces may make at most.
const MAX_ALTERNATIVES: usize = 1_000;

/// One component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// Taken as it is.
    Literal(String),
    /// Compared with the names of a folder.
    Pattern(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `[…]`, or what is not in it.
    Set {
        inside: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether `text` is more than a plain path.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// The patterns that `text` stands for, component by component.
///
/// # Errors
/// A sentence: a bracket without its end, or too many alternatives.
pub(crate) fn parse(text: &str) -> Result<Vec<Vec<Component>>, String> {
    let mut alternatives = Vec::new();
    expand_braces(text, &mut alternatives)?;
    alternatives
        .iter()
        .map(|path| path.split('/').filter(|part| !part.is_empty()).map(component).collect())
        .collect()
}

/// Replaces the first braces by each of their alternatives, until none are left.
fn expand_braces(text: &str, out: &mut Vec<String>) -> Result<(), String> {
    let Some((open, close)) = first_braces(text)? else {
        if out.len() >= MAX_ALTERNATIVES {
            return Err(format!("more than {MAX_ALTERNATIVES} alternatives in one pattern"));
        }
        out.push(text.to_owned());
        return Ok(());
    };
    let (before, inner, after) = (&text[..open], &text[open + 1..close], &text[close + 1..]);
    split_alternatives(inner)
        .into_iter()
        .try_for_each(|one| expand_braces(&format!("{before}{one}{after}"), out))
}

/// Where the first `{` and its `}` are.
fn first_braces(text: &str) -> Result<Option<(usize, usize)>, String> {
    let (mut open, mut depth, mut escaped) = (None, 0, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => {
                open.get_or_insert(at);
                depth += 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if let (0, Some(open)) = (depth, open) {
                    return Ok(Some((open, at)));
                }
            }
            _ => {}
        }
    }
    if open.is_some() { Err("`{` without `}`".into()) } else { Ok(None) }
}

fn split_alternatives(inner: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut escaped) = (Vec::new(), 0, 0, false);
    for (at, character) in inner.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    parts
}

fn component(text: &str) -> Result<Component, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => set(&mut characters)?,
            '\\' => Token::Char(characters.next().ok_or("a `\\` at the end")?),
            other => Token::Char(other),
        });
    }
    let plain: Option<String> =
        tokens.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect();
    Ok(plain.map_or(Component::Pattern(tokens), Component::Literal))
}

/// The inside of brackets, of which the first has been read.
fn set(characters: &mut std::str::Chars<'_>) -> Result<Token, String> {
    let unclosed = || "`[` without `]`".to_owned();
    let mut inside = true;
    let mut ranges = Vec::new();
    let mut next = characters.next().ok_or_else(unclosed)?;
    if next == '!' || next == '^' {
        inside = false;
        next = characters.next().ok_or_else(unclosed)?;
    }
    loop {
        let low = if next == '\\' { characters.next().ok_or_else(unclosed)? } else { next };
        let mut rest = characters.clone();
        let high = match (rest.next(), rest.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                *characters = rest;
                high
            }
            _ => low,
        };
        ranges.push((low, high));
        next = characters.next().ok_or_else(unclosed)?;
        if next == ']' {
            return Ok(Token::Set { inside, ranges });
        }
    }
}

/// Whether `name` is what `tokens` describe. As in a shell, a dot at the front must be there in the pattern too.
pub(crate) fn matches(tokens: &[Token], name: &str) -> bool {
    if name.starts_with('.') && tokens.first() != Some(&Token::Char('.')) {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    // The last `*` and what it stood for: on a mismatch it takes one character more. Linear in both lengths' product.
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
            }
            Some(one) if fits(one, name[at]) => {
                token += 1;
                at += 1;
            }
            _ => match star {
                Some((star_token, taken)) => {
                    star = Some((star_token, taken + 1));
                    token = star_token + 1;
                    at = taken + 1;
                }
                None => return false,
            },
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

fn fits(token: &Token, character: char) -> bool {
    match token {
        Token::Char(wanted) => *wanted == character,
        Token::One => true,
        Token::Any => false,
        Token::Set { inside, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) == *inside
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(pattern: &str, name: &str) -> bool {
        parse(pattern).unwrap().iter().any(|components| match &components[..] {
            [Component::Literal(text)] => text == name,
            [Component::Pattern(tokens)] => matches(tokens, name),
            _ => false,
        })
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*", "abc", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.csv", "x.csv", true),
            ("*.csv", "x.csv.gz", false),
            ("part-[0-9]*", "part-7-x", true),
            ("part-[!0-9]", "part-x", true),
            ("part-[!0-9]", "part-1", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("{a,b*}", "bcd", true),
            ("{a,b{c,d}}", "bd", true),
            ("{a,b}", "c", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("ü?", "üß", true),
            ("**", "x", true),
        ] {
            assert_eq!(fit(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let parsed = parse("/a/b*/{c,d}").unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0][0], Component::Literal("a".into()));
        assert!(matches!(parsed[0][1], Component::Pattern(_)));
        assert_eq!(parsed[1][2], Component::Literal("d".into()));
    }

    #[test]
    fn what_is_unclosed_or_explodes_is_refused() {
        for pattern in ["/[a", "/{a,b", "/a\\", "/[", "/[!"] {
            assert!(parse(pattern).is_err(), "{pattern}");
        }
        assert!(parse(&"{a,b}".repeat(11)).unwrap_err().contains("alternatives"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_plain_text_matches_itself(pattern in "\\PC{0,20}", name in "[a-z]{1,10}") {
            if let Ok(parsed) = parse(&pattern) {
                for component in parsed.iter().flatten() {
                    if let Component::Pattern(tokens) = component {
                        matches(tokens, &name);
                    }
                }
            }
            prop_assert!(fit(&name, &name));
            let starred = format!("{}*", &name[..1]);
            prop_assert!(fit(&starred, &name));
        }
    }
}
