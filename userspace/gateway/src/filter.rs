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

/// What a condition asks of a packet, or of the packets of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketTerm {
    /// The IP protocol.
    Protocol(u8),
    /// The address of an end.
    Address(Side, Prefix),
    /// The port of an end.
    Port(Side, u16),
}

/// An end of a packet, or of the flow that it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// One of the two.
    Either,
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
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

    /// What the condition asks of packets; `None` if it looks at something else.
    ///
    /// # Errors
    /// The value is none for the key, or the operator compares.
    pub fn packet(&self) -> Result<Option<PacketTerm>, FilterError> {
        let term = match self.key.as_str() {
            "protocol" => PacketTerm::Protocol(self.protocol()?),
            "host" => PacketTerm::Address(Side::Either, self.prefix()?),
            "source" => PacketTerm::Address(Side::Source, self.prefix()?),
            "destination" => PacketTerm::Address(Side::Destination, self.prefix()?),
            "port" => PacketTerm::Port(Side::Either, self.port()?),
            "source-port" => PacketTerm::Port(Side::Source, self.port()?),
            "destination-port" => PacketTerm::Port(Side::Destination, self.port()?),
            _ => return Ok(None),
        };
        self.equality()?;
        Ok(Some(term))
    }

    /// The value as an address or a prefix.
    ///
    /// # Errors
    /// It is neither.
    fn prefix(&self) -> Result<Prefix, FilterError> {
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
    fn port(&self) -> Result<u16, FilterError> {
        self.value.parse().map_err(|_no_number| self.expected("a port from 1 to 65535"))
    }

    /// The value as an IP protocol.
    ///
    /// # Errors
    /// It is none.
    fn protocol(&self) -> Result<u8, FilterError> {
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

    /// Refuses an operator that compares.
    ///
    /// # Errors
    /// It does.
    pub fn equality(&self) -> Result<(), FilterError> {
        match self.operator {
            Operator::Is | Operator::IsNot => Ok(()),
            Operator::Below | Operator::Above => Err(self.expected("= or !=")),
        }
    }
}

impl Operator {
    /// Whether a property that is or is not there is as wanted; one cannot be below or above.
    pub fn holds(self, is: bool) -> bool {
        match self {
            Self::Is => is,
            Self::IsNot => !is,
            Self::Below | Self::Above => false,
        }
    }

    /// Whether a quantity compares to another.
    pub fn compares<T: PartialOrd>(self, found: &T, wanted: &T) -> bool {
        match self {
            Self::Is => found == wanted,
            Self::IsNot => found != wanted,
            Self::Below => found < wanted,
            Self::Above => found > wanted,
        }
    }
}

impl Side {
    /// Whether something holds for the end that is meant, of a source and a destination.
    pub fn any<T>(self, [source, destination]: [T; 2], holds: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Either => holds(source) || holds(destination),
            Self::Source => holds(source),
            Self::Destination => holds(destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_packets_is_told_from_other_things() {
        let port = PacketTerm::Port(Side::Destination, 80);
        assert_eq!(one("destination-port!=80").packet(), Ok(Some(port)));
        assert_eq!(one("age>1h").packet(), Ok(None));
        assert!(one("port>80").packet().unwrap_err().expected.contains("!="));
        assert!(
            Side::Either.any([1, 2], |end| end == 2) && !Side::Source.any([1, 2], |end| end == 2)
        );
        assert!(!Operator::IsNot.holds(true) && Operator::Above.compares(&2, &1));
    }

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
