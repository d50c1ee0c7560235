//! Paging and filters of lists.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use nightgate_store::Stored;
use serde::Deserialize;

use super::Failure;

/// Entries of a page when the caller does not say.
const DEFAULT_LIMIT: usize = 10;

/// Most entries of a page.
const MAX_LIMIT: usize = 500;

/// Which part of a list is asked for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ListQuery {
    /// Most entries.
    pub(super) limit: usize,
    /// Entries to skip.
    pub(super) offset: usize,
    /// Which entries count.
    pub(super) filter: Filter,
}

/// Which entries count. Of OpenZiti's filter language only equality of id or name.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Filter {
    /// All.
    All,
    /// The one with this id.
    Id(String),
    /// The one with this name.
    Name(String),
}

impl Filter {
    /// Whether an entry counts.
    pub(super) fn admits(&self, id: &str, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Id(wanted) => wanted == id,
            Self::Name(wanted) => wanted == name,
        }
    }
}

impl ListQuery {
    /// The entries of a table that count, by name.
    pub(super) fn select<'a, K, T>(
        &self,
        table: &'a BTreeMap<K, Stored<T>>,
        id: fn(&K) -> &str,
        name: fn(&T) -> &str,
    ) -> Vec<&'a Stored<T>> {
        let mut entries: Vec<_> = table
            .iter()
            .filter(|(key, stored)| self.filter.admits(id(key), name(&stored.entity)))
            .map(|(_, stored)| stored)
            .collect();
        entries.sort_by(|a, b| name(&a.entity).cmp(name(&b.entity)));
        entries
    }
}

#[derive(Deserialize)]
struct Parameters {
    limit: Option<usize>,
    offset: Option<usize>,
    filter: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let Query(parameters) = Query::<Parameters>::try_from_uri(&parts.uri)
            .map_err(|error| Failure::bad_request("INVALID_PAGINATION", error.body_text()))?;
        Ok(Self {
            limit: parameters.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT),
            offset: parameters.offset.unwrap_or(0),
            filter: parameters.filter.as_deref().map_or(Ok(Filter::All), parse_filter)?,
        })
    }
}

fn parse_filter(text: &str) -> Result<Filter, Failure> {
    let wrong = || {
        Failure::bad_request(
            "INVALID_FILTER",
            format!("filter {text:?}: expected id=\"...\" or name=\"...\""),
        )
    };
    let (field, value) = text.split_once('=').ok_or_else(wrong)?;
    let value = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = unescape(value.ok_or_else(wrong)?).ok_or_else(wrong)?;
    match field.trim() {
        "id" => Ok(Filter::Id(value)),
        "name" => Ok(Filter::Name(value)),
        _ => Err(wrong()),
    }
}

/// Resolves `\"` and `\\`; `None` if a quote or backslash stands alone.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => plain.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_of_id_and_name_is_understood() {
        assert_eq!(parse_filter(r#"name="web""#).unwrap(), Filter::Name("web".into()));
        assert_eq!(parse_filter(r#" id = "a=b" "#).unwrap(), Filter::Id("a=b".into()));
        assert_eq!(parse_filter(r#"name="a\"b\\""#).unwrap(), Filter::Name(r#"a"b\"#.into()));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "name",
            "name=web",
            r#"name="a" or true"#,
            r#"name="a" or name="b""#,
            r#"type="x""#,
            r#"name="\""#,
        ] {
            assert!(parse_filter(text).is_err(), "{text}");
        }
    }
}
