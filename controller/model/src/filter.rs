//! The query language of management lists, as OpenZiti's clients write it:
//! `name contains "gw" and not (isOnline = true) sort by name desc skip 10 limit 20`.
//!
//! Keywords are not case-sensitive, field names are. Pure: [`Query`] reads values through a function.

mod evaluate;
mod lexer;
mod parser;

use std::fmt;

use serde_json::Value;

/// Longest query, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 64;

/// A query: which entries, in which order, and which part of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Which entries; all if none.
    pub predicate: Option<Predicate>,
    /// In which order; the first key that differs decides.
    pub sort: Vec<SortKey>,
    /// Entries to skip.
    pub skip: Option<usize>,
    /// Most entries.
    pub limit: Option<Limit>,
}

/// A query that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("filter, at byte {at}: found {found}, expected {expected}")]
pub struct FilterError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What stands there.
    pub found: String,
    /// What could stand there.
    pub expected: String,
}

/// Most entries of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// `limit none`.
    None,
    /// `limit N`.
    Count(usize),
}

/// A key that entries are sorted by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SortKey {
    /// The field.
    pub field: String,
    /// The direction.
    pub direction: Direction,
}

/// A direction of sorting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A condition on an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// `true` or `false`.
    Constant(bool),
    /// All of them.
    And(Vec<Self>),
    /// One of them.
    Or(Vec<Self>),
    /// The contrary.
    Not(Box<Self>),
    /// A field that is true by itself.
    Flag(String),
    /// `isEmpty(field)`: no entries, no text, or nothing at all.
    IsEmpty(String),
    /// A comparison.
    Compare(Subject, Comparison),
}

/// What is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A field.
    Field(String),
    /// `anyOf(field)`: one of a set's members.
    AnyOf(String),
    /// `allOf(field)`: every member of a set.
    AllOf(String),
    /// `noneOf(field)`: no member of a set.
    NoneOf(String),
    /// `count(field)`: how many members a set has.
    Count(String),
}

/// How it is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// With one value.
    One(Operator, Value),
    /// `in [..]`.
    In(Vec<Value>),
    /// `not in [..]`.
    NotIn(Vec<Value>),
    /// `between LOW and HIGH`: not below the first, below the second.
    Between(Value, Value),
    /// `not between LOW and HIGH`.
    NotBetween(Value, Value),
}

/// Compares a field with one value. Values of different types are unequal and in no order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `contains`: part of a text.
    Contains,
    /// `not contains`
    NotContains,
    /// `icontains`: part of a text, whatever the case.
    IContains,
    /// `not icontains`
    NotIContains,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// The text is too long, nested too deeply, or not of the language.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parser::parse(text)
    }

    /// All fields that the query names.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields: Vec<&str> = self.sort.iter().map(|key| key.field.as_str()).collect();
        if let Some(predicate) = &self.predicate {
            predicate.collect_fields(&mut fields);
        }
        fields
    }

    /// Whether an entry counts; `field` gives the value of its fields, `null` for those it lacks.
    pub fn admits(&self, field: &dyn Fn(&str) -> Value) -> bool {
        self.predicate.as_ref().is_none_or(|predicate| predicate.holds(field))
    }
}

impl Predicate {
    fn collect_fields<'a>(&'a self, fields: &mut Vec<&'a str>) {
        match self {
            Self::Constant(_) => {}
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.collect_fields(fields);
                }
            }
            Self::Not(part) => part.collect_fields(fields),
            Self::Flag(field) | Self::IsEmpty(field) => fields.push(field),
            Self::Compare(subject, _) => fields.push(subject.field()),
        }
    }
}

impl Subject {
    fn field(&self) -> &str {
        match self {
            Self::Field(field)
            | Self::AnyOf(field)
            | Self::AllOf(field)
            | Self::NoneOf(field)
            | Self::Count(field) => field,
        }
    }
}

impl Operator {
    /// Every operator and how it is written.
    const WRITTEN: [(Self, &'static str); 10] = [
        (Self::Equal, "="),
        (Self::NotEqual, "!="),
        (Self::LessOrEqual, "<="),
        (Self::Less, "<"),
        (Self::GreaterOrEqual, ">="),
        (Self::Greater, ">"),
        (Self::Contains, "contains"),
        (Self::NotContains, "not contains"),
        (Self::IContains, "icontains"),
        (Self::NotIContains, "not icontains"),
    ];
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.predicate.as_ref().map(ToString::to_string));
        let keys: Vec<_> = self
            .sort
            .iter()
            .map(|key| match key.direction {
                Direction::Ascending => key.field.clone(),
                Direction::Descending => format!("{} desc", key.field),
            })
            .collect();
        if !keys.is_empty() {
            parts.push(format!("sort by {}", keys.join(", ")));
        }
        parts.extend(self.skip.map(|skip| format!("skip {skip}")));
        parts.extend(self.limit.map(|limit| match limit {
            Limit::None => "limit none".to_owned(),
            Limit::Count(count) => format!("limit {count}"),
        }));
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: &[Self], word: &str| {
            let parts: Vec<_> = parts.iter().map(|part| format!("({part})")).collect();
            parts.join(word)
        };
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::And(parts) => f.write_str(&joined(parts, " and ")),
            Self::Or(parts) => f.write_str(&joined(parts, " or ")),
            Self::Not(part) => write!(f, "not ({part})"),
            Self::Flag(field) => f.write_str(field),
            Self::IsEmpty(field) => write!(f, "isEmpty({field})"),
            Self::Compare(subject, comparison) => write!(f, "{subject} {comparison}"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field),
            Self::AnyOf(field) => write!(f, "anyOf({field})"),
            Self::AllOf(field) => write!(f, "allOf({field})"),
            Self::NoneOf(field) => write!(f, "noneOf({field})"),
            Self::Count(field) => write!(f, "count({field})"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[Value]| {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::One(operator, value) => {
                let written = Operator::WRITTEN.iter().find(|(known, _)| known == operator);
                write!(f, "{} {value}", written.map_or("", |(_, written)| written))
            }
            Self::In(values) => write!(f, "in [{}]", list(values)),
            Self::NotIn(values) => write!(f, "not in [{}]", list(values)),
            Self::Between(low, high) => write!(f, "between {low} and {high}"),
            Self::NotBetween(low, high) => write!(f, "not between {low} and {high}"),
        }
    }
}

#[cfg(test)]
mod tests;
