//! Text to tokens.

use serde_json::{Number, Value};

use super::FilterError;

/// A token and where it starts, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: TokenKind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword or a field name.
    Word(String),
    /// A text or a number.
    Literal(Value),
    /// A comparison: `=`, `!=`, `<`, `<=`, `>`, `>=`.
    Comparison(&'static str),
    /// One of `()[],`.
    Mark(char),
    /// The end of the text.
    End,
}

/// The tokens of a text; the last is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let (kind, length) = token(rest, first, at)?;
        tokens.push(Token { at, kind });
        rest = rest[length..].trim_start();
    }
    tokens.push(Token { at: text.len(), kind: TokenKind::End });
    Ok(tokens)
}

impl std::fmt::Display for TokenKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Literal(value) => write!(f, "{value}"),
            Self::Comparison(written) => write!(f, "{written:?}"),
            Self::Mark(mark) => write!(f, "{mark:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

fn token(rest: &str, first: char, at: usize) -> Result<(TokenKind, usize), FilterError> {
    let comparison = ["!=", "<=", ">=", "=", "<", ">"].into_iter().find(|w| rest.starts_with(w));
    if let Some(written) = comparison {
        return Ok((TokenKind::Comparison(written), written.len()));
    }
    match first {
        '(' | ')' | '[' | ']' | ',' => Ok((TokenKind::Mark(first), 1)),
        '"' => string(rest, at),
        '-' | '0'..='9' => Ok(number(rest)),
        _ if is_word(first) => {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            Ok((TokenKind::Word(rest[..length].to_owned()), length))
        }
        _ => Err(error(at, format!("{first:?}"), "a field, a value or an operator")),
    }
}

/// Letters, digits and what OpenZiti's field names contain. A dot leads into an object.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':')
}

fn string(rest: &str, at: usize) -> Result<(TokenKind, usize), FilterError> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Ok((TokenKind::Literal(Value::String(text)), index + 1)),
            '\\' => text.push(match characters.next().map(|(_, escaped)| escaped) {
                Some(escaped @ ('"' | '\\' | '/')) => escaped,
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some('b') => '\u{8}',
                Some('u') => unicode(&mut characters)
                    .ok_or_else(|| error(at + index, "\\u", "four hexadecimal digits after it"))?,
                Some(_) | None => {
                    return Err(error(at + index, "a backslash", r#"\" \\ \n \r \t \f \b \uXXXX"#));
                }
            }),
            other => text.push(other),
        }
    }
    Err(error(at, "a text without end", "a closing \""))
}

fn unicode(characters: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let digits: String = characters.take(4).map(|(_, digit)| digit).collect();
    let is_code = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    char::from_u32(u32::from_str_radix(&digits, 16).ok().filter(|_| is_code)?)
}

/// A number, or a word that begins like one: a timestamp.
fn number(rest: &str) -> (TokenKind, usize) {
    let length = rest.find(|c| !is_word(c) && c != '+').unwrap_or(rest.len());
    let written = &rest[..length];
    // The standard library reads decimals to the nearest number; `serde_json` may miss it by a bit.
    let exact = || written.parse().ok().and_then(Number::from_f64);
    let kind = match serde_json::from_str::<Number>(written) {
        Ok(number) if number.is_f64() => TokenKind::Literal(exact().unwrap_or(number).into()),
        Ok(number) => TokenKind::Literal(number.into()),
        Err(_not_a_number) => TokenKind::Word(written.to_owned()),
    };
    (kind, length)
}

pub(super) fn error(at: usize, found: impl Into<String>, expected: &str) -> FilterError {
    FilterError { at, found: found.into(), expected: expected.into() }
}
