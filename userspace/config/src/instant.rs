//! Moments.

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// Decodes a moment as RFC 3339 writes it, in UTC and whole seconds, such as `2026-11-21T20:00:00Z`: seconds since 1970.
pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<u64> {
    decode::checked(reader, node, |text| {
        parse(text).ok_or_else(|| {
            let remedy = "write it as 2026-11-21T20:00:00Z";
            Malformed::new("a moment from 1970 on in UTC", remedy)
        })
    })
}

fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = parts(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = parts(time, ':', [2, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |month: u64| match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 31,
    };
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=days_of(month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let before = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let days = before + (1..month).map(days_of).sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Three numbers of so many digits.
fn parts(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(separator);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = if is_number { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_seconds_since_1970() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199)),
            ("2026-11-21T20:00:00Z", Some(1_795_291_200)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-21T24:00:00Z", None),
            ("2026-11-21T20:00:00", None),
            ("2026-11-21 20:00:00Z", None),
            ("2026-11-21T20:00:+1Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
