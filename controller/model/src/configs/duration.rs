//! Durations as OpenZiti's configurations write them.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de::Error as _};

/// Units, longest spelling first where one begins like another, in nanoseconds.
const UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Reads `1m30s`, `500ms` or `1.5h`: numbers with units, as Go's `time.ParseDuration` without a sign. `None`
/// for anything else.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let number =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (value, after) = rest.split_at(number);
        let unit = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(unit);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds += value.parse::<f64>().ok()? * factor;
        rest = after;
    }
    let seconds = nanoseconds / 1e9;
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(source)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!("duration {text:?}, expected one as 500ms or 1m30s"))
    })
}

pub(super) fn deserialize_option<'de, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(source).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_durations_and_nothing_else_is() {
        for (text, millis) in
            [("5s", 5_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-5s", "5 s", "5d", "1..5s", "5ss", "99999999999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
