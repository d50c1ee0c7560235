//! The language of `--filter`: conditions such as `protocol=tcp host=10.1.0.0/16 port!=22 age>1h`, which all have
//! to hold.

use std::{net::IpAddr, time::Duration};

use nightgate_config::Prefix;

/// A condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Term {
    /// What it looks at; empty for a text that may be anywhere.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operator {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Below,
    /// `>`
    Above,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("filter {term:?}: expected {expected}")]
pub struct FilterError {
    /// The condition.
    pub term: String,
    /// What would be right.
    pub expected: String,
}

/// Takes texts apart into their conditions, which blanks separate.
///
/// # Errors
/// A condition has no value.
pub fn parse(texts: &[String]) -> Result<Vec<Term>, FilterError> {
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.filter(|word| *word != "and").map(Term::parse).collect()
}

impl Term {
    fn parse(word: &str) -> Result<Self, FilterError> {
        let Some(at) = word.find(['=', '!', '<', '>']) else {
            return Ok(Self { key: String::new(), operator: Operator::Is, value: word.to_owned() });
        };
        let (key, rest) = word.split_at(at);
        let operators = [
            ("!=", Operator::IsNot),
            ("=", Operator::Is),
            ("<", Operator::Below),
            (">", Operator::Above),
        ];
        let found = operators
            .iter()
            .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
        match found {
            Some((operator, value)) if !value.is_empty() && !key.is_empty() => {
                Ok(Self { key: key.to_owned(), operator, value: value.to_owned() })
            }
            Some(_) | None => Err(FilterError {
                term: word.to_owned(),
                expected: "KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>VALUE without blanks".into(),
            }),
        }
    }

    /// The error that says what would be right in place of this condition.
    pub fn expected(&self, expected: impl Into<String>) -> FilterError {
        let sign = match self.operator {
            Operator::Is if self.key.is_empty() => "",
            Operator::Is => "=",
            Operator::IsNot => "!=",
            Operator::Below => "<",
            Operator::Above => ">",
        };
        FilterError { term: format!("{}{sign}{}", self.key, self.value), expected: expected.into() }
    }

    /// The value as an address or a prefix.
    ///
    /// # Errors
    /// It is neither.
    pub fn prefix(&self) -> Result<Prefix, FilterError> {
        let (address, length) = match self.value.split_once('/') {
            Some((address, length)) => (address, length.parse().ok()),
            None => (self.value.as_str(), None),
        };
        let has_length = self.value.contains('/');
        address
            .parse::<IpAddr>()
            .ok()
            .and_then(|address| {
                let width = if address.is_ipv4() { 32 } else { 128 };
                Prefix::new(address, if has_length { length? } else { width })
            })
            .ok_or_else(|| self.expected("an address, or a prefix without host bits"))
    }

    /// The value as a port.
    ///
    /// # Errors
    /// It is none.
    pub fn port(&self) -> Result<u16, FilterError> {
        self.value.parse().map_err(|_no_number| self.expected("a port from 1 to 65535"))
    }

    /// The value as an IP protocol.
    ///
    /// # Errors
    /// It is none.
    pub fn protocol(&self) -> Result<u8, FilterError> {
        match self.value.as_str() {
            "icmp" => Ok(1),
            "tcp" => Ok(6),
            "udp" => Ok(17),
            "icmpv6" => Ok(58),
            number => number.parse().map_err(|_no_number| {
                self.expected("tcp, udp, icmp, icmpv6 or a number up to 255")
            }),
        }
    }

    /// The value as a time: a number with `ms`, `s`, `m`, `h` or `d`.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&self) -> Result<Duration, FilterError> {
        let digits = self.value.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.value.len());
        let (number, unit) = self.value.split_at(digits);
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        number
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Duration::from_millis)
            .ok_or_else(|| self.expected("a time such as 500ms, 30s, 5m, 1h or 2d"))
    }

    /// The value as an amount: a number, with `k`, `M` or `G` for its thousands.
    ///
    /// # Errors
    /// It is none.
    pub fn amount(&self) -> Result<u64, FilterError> {
        let text = self.value.as_str();
        let (number, factor) = match text.chars().last() {
            Some('k') => (&text[..text.len() - 1], 1_000),
            Some('M') => (&text[..text.len() - 1], 1_000_000),
            Some('G') => (&text[..text.len() - 1], 1_000_000_000),
            Some(_) | None => (text, 1),
        };
        let amount = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        amount.ok_or_else(|| self.expected("a number such as 1500, 10k, 5M or 1G"))
    }

    /// Whether a property that is or is not there holds.
    ///
    /// # Errors
    /// The operator compares.
    pub fn holds(&self, is: bool) -> Result<bool, FilterError> {
        match self.operator {
            Operator::Is => Ok(is),
            Operator::IsNot => Ok(!is),
            Operator::Below | Operator::Above => Err(self.expected("= or !=")),
        }
    }

    /// Whether a quantity compares to the condition's.
    pub fn compares<T: PartialOrd>(&self, found: &T, wanted: &T) -> bool {
        match self.operator {
            Operator::Is => found == wanted,
            Operator::IsNot => found != wanted,
            Operator::Below => found < wanted,
            Operator::Above => found > wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Term {
        parse(&[text.to_owned()]).unwrap().remove(0)
    }

    #[test]
    fn conditions_are_taken_apart_at_their_signs() {
        let texts = ["protocol=tcp and port!=22".to_owned(), "age>1h lan".to_owned()];
        let terms = parse(&texts).unwrap();
        let parts = terms.iter().map(|term| (term.key.as_str(), term.operator, &*term.value));
        assert_eq!(
            parts.collect::<Vec<_>>(),
            [
                ("protocol", Operator::Is, "tcp"),
                ("port", Operator::IsNot, "22"),
                ("age", Operator::Above, "1h"),
                ("", Operator::Is, "lan"),
            ]
        );
        for text in ["port=", "=22", "port!22"] {
            assert!(parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }

    #[test]
    fn values_have_their_units() {
        assert_eq!(one("age>2d").duration(), Ok(Duration::from_secs(172_800)));
        assert_eq!(one("age>30ms").duration(), Ok(Duration::from_millis(30)));
        assert_eq!(one("bytes>5M").amount(), Ok(5_000_000));
        assert_eq!(one("protocol=icmpv6").protocol(), Ok(58));
        assert_eq!(one("host=10.1.0.0/16").prefix().unwrap().length(), 16);
        assert_eq!(one("host=fd00::1").prefix().unwrap().length(), 128);
        for text in ["age>1", "age>h", "age>99999999999999999d"] {
            assert!(one(text).duration().is_err(), "{text}");
        }
        for text in ["host=10.1.0.1/16", "host=10.1.0.0/33", "host=x", "host=::/x"] {
            let error = one(text).prefix().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
