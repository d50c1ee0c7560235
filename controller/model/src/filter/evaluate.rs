//! Whether an entry fulfils a predicate, and which of two entries comes first.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Comparison, Direction, Operator, Predicate, Query, SortKey, Subject};

impl Query {
    /// Which of two entries comes first; `values` are those of [`Query::sort`]'s fields.
    pub fn order(&self, a: &[Value], b: &[Value]) -> Ordering {
        let ordered = self.sort.iter().zip(a.iter().zip(b)).map(|(key, (a, b))| key.order(a, b));
        ordered.fold(Ordering::Equal, Ordering::then)
    }
}

impl SortKey {
    fn order(&self, a: &Value, b: &Value) -> Ordering {
        let order = rank(a).cmp(&rank(b)).then(order(a, b).unwrap_or(Ordering::Equal));
        match self.direction {
            Direction::Ascending => order,
            Direction::Descending => order.reverse(),
        }
    }
}

impl Predicate {
    pub(super) fn holds(&self, field: &dyn Fn(&str) -> Value) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::And(parts) => parts.iter().all(|part| part.holds(field)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(field)),
            Self::Not(part) => !part.holds(field),
            Self::Flag(name) => field(name) == Value::Bool(true),
            Self::IsEmpty(name) => match field(name) {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(members) => members.is_empty(),
                Value::Object(members) => members.is_empty(),
                Value::Bool(_) | Value::Number(_) => false,
            },
            Self::Compare(subject, comparison) => subject.fulfils(comparison, field),
        }
    }
}

impl Subject {
    fn fulfils(&self, comparison: &Comparison, field: &dyn Fn(&str) -> Value) -> bool {
        let members = |name: &str| match field(name) {
            Value::Array(members) => members,
            Value::Null => Vec::new(),
            Value::Object(members) => members.into_iter().map(|(_, member)| member).collect(),
            single @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => vec![single],
        };
        let holds = |value: &Value| comparison.holds(value);
        match self {
            Self::Field(name) => holds(&field(name)),
            Self::AnyOf(name) => members(name).iter().any(holds),
            Self::AllOf(name) => members(name).iter().all(holds),
            Self::NoneOf(name) => !members(name).iter().any(holds),
            Self::Count(name) => holds(&members(name).len().into()),
        }
    }
}

impl Comparison {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::One(operator, wanted) => operator.holds(value, wanted),
            Self::In(wanted) => wanted.iter().any(|wanted| equal(value, wanted)),
            Self::NotIn(wanted) => !wanted.iter().any(|wanted| equal(value, wanted)),
            Self::Between(low, high) => is_between(value, low, high),
            Self::NotBetween(low, high) => !is_between(value, low, high),
        }
    }
}

impl Operator {
    fn holds(self, value: &Value, wanted: &Value) -> bool {
        let is = |accepts: fn(Ordering) -> bool| order(value, wanted).is_some_and(accepts);
        let contains = || text(value).contains(&text(wanted));
        let icontains = || text(value).to_lowercase().contains(&text(wanted).to_lowercase());
        match self {
            Self::Equal => equal(value, wanted),
            Self::NotEqual => !equal(value, wanted),
            Self::Less => is(Ordering::is_lt),
            Self::LessOrEqual => is(Ordering::is_le),
            Self::Greater => is(Ordering::is_gt),
            Self::GreaterOrEqual => is(Ordering::is_ge),
            Self::Contains => contains(),
            Self::NotContains => !contains(),
            Self::IContains => icontains(),
            Self::NotIContains => !icontains(),
        }
    }
}

fn is_between(value: &Value, low: &Value, high: &Value) -> bool {
    order(value, low).is_some_and(Ordering::is_ge)
        && order(value, high).is_some_and(Ordering::is_lt)
}

fn equal(a: &Value, b: &Value) -> bool {
    a == b || order(a, b) == Some(Ordering::Equal)
}

/// The order of two values of one type; none between types.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => None,
    }
}

/// Where values of a type come when entries of several types are sorted.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
