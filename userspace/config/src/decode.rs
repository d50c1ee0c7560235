//! Decoding scalars.

use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    node::{Node, Value},
    reader::Reader,
};

/// Why a text is not a value of some type.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) expected: &'static str,
    pub(crate) remedy: String,
}

impl Malformed {
    pub(crate) fn new(expected: &'static str, remedy: impl Into<String>) -> Self {
        Self { expected, remedy: remedy.into() }
    }
}

/// Decodes a text.
pub(crate) fn text(reader: &mut Reader<'_>, node: Node) -> Option<String> {
    match node.value {
        Value::Text(text) if !text.is_empty() => Some(text),
        Value::Text(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::List(_)
        | Value::Map(_) => {
            reader.report(
                node.line,
                node.value.describe(),
                "a text",
                "write a text, quoted if need be",
            );
            None
        }
    }
}

/// Decodes a text that a function checks.
pub(crate) fn checked<T>(
    reader: &mut Reader<'_>,
    node: Node,
    check: impl FnOnce(&str) -> Result<T, Malformed>,
) -> Option<T> {
    let line = node.line;
    let text = text(reader, node)?;
    match check(&text) {
        Ok(value) => Some(value),
        Err(Malformed { expected, remedy }) => {
            reader.report(line, format!("the text {text:?}"), expected, remedy);
            None
        }
    }
}

/// Decodes a name that nothing else of its kind may have. `seen` holds those before, and their lines.
pub(crate) fn unique<T: Clone + Display + Ord>(
    reader: &mut Reader<'_>,
    node: Node,
    seen: &mut BTreeMap<T, u32>,
    (expected, remedy): (&'static str, &'static str),
    decode: impl FnOnce(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<T> {
    let line = node.line;
    let name = decode(reader, node)?;
    if let Some(first) = seen.insert(name.clone(), line) {
        let found = format!("{name} again, first on line {first}");
        reader.report(line, found, expected, remedy);
    }
    Some(name)
}

/// Decodes a whole number of a range.
pub(crate) fn integer<T: TryFrom<i64>>(
    reader: &mut Reader<'_>,
    node: Node,
    low: i64,
    high: i64,
) -> Option<T> {
    let number = match node.value {
        Value::Integer(number) if (low..=high).contains(&number) => T::try_from(number).ok(),
        Value::Integer(_)
        | Value::Text(_)
        | Value::Null
        | Value::Bool(_)
        | Value::List(_)
        | Value::Map(_) => None,
    };
    if number.is_none() {
        let expected = format!("a whole number from {low} to {high}");
        reader.report(node.line, node.value.describe(), expected, "choose a number in the range");
    }
    number
}

/// Decodes `true` or `false`.
pub(crate) fn boolean(reader: &mut Reader<'_>, node: Node) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        Value::Text(_) | Value::Null | Value::Integer(_) | Value::List(_) | Value::Map(_) => {
            reader.report(node.line, node.value.describe(), "true or false", "write true or false");
            None
        }
    }
}

/// A time of whole seconds, minutes, hours or days, such as `90s`; `None` if the text is none.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|end: char| !end.is_ascii_digit());
    let unit = match text.strip_prefix(digits)? {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_plain)?;
    number.checked_mul(unit).map(Duration::from_secs)
}

/// Decodes a path.
pub(crate) fn path(reader: &mut Reader<'_>, node: Node) -> Option<PathBuf> {
    text(reader, node).map(PathBuf::from)
}

/// Decodes an address and port.
pub(crate) fn socket_address(reader: &mut Reader<'_>, node: Node) -> Option<SocketAddr> {
    checked(reader, node, |text| {
        text.parse().map_err(|_not_an_address| {
            Malformed::new(
                "an IP address and a port",
                "write 192.0.2.1:443 or [2001:db8::1]:443; names are not resolved here",
            )
        })
    })
}
