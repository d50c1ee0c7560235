//! Paging, filters and order of lists.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use nightgate_model::filter::{self, Limit};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Failure, answer};

/// Fields that every entity has.
pub(super) const COMMON_FIELDS: [&str; 5] = ["id", "name", "createdAt", "updatedAt", "tags"];

/// Entries of a page when the caller does not say.
const DEFAULT_LIMIT: usize = 10;

/// Most entries of a page.
const MAX_LIMIT: usize = 500;

/// Which part of a list is asked for. What the filter says of paging goes before `limit` and `offset`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ListQuery {
    /// The filter.
    pub(super) wanted: filter::Query,
    limit: Option<usize>,
    offset: Option<usize>,
}

/// What entries are most often found by.
pub(super) struct Names {
    /// Identifier.
    pub(super) id: String,
    /// Unique name.
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<usize>,
    offset: Option<usize>,
    filter: Option<String>,
    sort: Option<String>,
}

impl ListQuery {
    /// Most entries of the page.
    pub(super) fn limit(&self) -> usize {
        match self.wanted.limit {
            Some(Limit::Count(limit)) => limit.min(MAX_LIMIT),
            Some(Limit::None) => MAX_LIMIT,
            None => self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT),
        }
    }

    /// Entries before the page.
    pub(super) fn offset(&self) -> usize {
        self.wanted.skip.or(self.offset).unwrap_or(0)
    }

    /// Refuses fields that the entries do not have: a mistyped one would silently find nothing.
    pub(super) fn check_fields(&self, fields: &[&str]) -> Result<(), Failure> {
        let is_known = |field: &&str| {
            let (root, _) = field.split_once('.').unwrap_or((field, ""));
            COMMON_FIELDS.contains(&root) || fields.contains(&root)
        };
        match self.wanted.fields().into_iter().find(|field| !is_known(field)) {
            None => Ok(()),
            Some(unknown) => {
                let known: Vec<_> = COMMON_FIELDS.iter().chain(fields).copied().collect();
                let known = known.join(", ");
                let message = format!("filter: there is no field {unknown:?}, only {known}");
                Err(Failure::bad_request("INVALID_FILTER", message))
            }
        }
    }

    /// Whether an entry counts.
    pub(super) fn admits(&self, entry: &Value) -> bool {
        self.wanted.admits(&|field| value(entry, field))
    }

    /// The page of a list; by name unless the query says otherwise.
    pub(super) fn answer<T>(
        &self,
        fields: &[&str],
        entries: impl Iterator<Item = T>,
        names: impl Fn(&T) -> Names,
        shape: impl Fn(&T) -> Value,
    ) -> Result<axum::response::Response, Failure> {
        self.check_fields(fields)?;
        let by_names = self.wanted.fields().iter().all(|field| matches!(*field, "id" | "name"));
        let mut counted = Vec::new();
        for entry in entries {
            let names = names(&entry);
            // Most queries need no more than names: then only the page is shaped.
            let shaped = if by_names { Value::Null } else { shape(&entry) };
            let field = |field: &str| match field {
                "id" => Value::String(names.id.clone()),
                "name" => Value::String(names.name.clone()),
                _ => value(&shaped, field),
            };
            if self.wanted.admits(&field) {
                let keys = self.wanted.sort.iter().map(|key| field(&key.field)).collect();
                counted.push(Counted { keys, name: names.name, entry });
            }
        }
        counted.sort_by(|a, b| self.wanted.order(&a.keys, &b.keys).then(a.name.cmp(&b.name)));
        let count = counted.len();
        let page = counted.iter().skip(self.offset()).take(self.limit());
        let page = page.map(|counted| shape(&counted.entry)).collect();
        Ok(answer::page(self, fields, page, count))
    }
}

/// An entry that the filter admits.
struct Counted<T> {
    keys: Vec<Value>,
    name: String,
    entry: T,
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let Query(parameters) = Query::<Paging>::try_from_uri(&parts.uri)
            .map_err(|error| Failure::bad_request("INVALID_PAGINATION", error.body_text()))?;
        let mut text = parameters.filter.unwrap_or_default();
        if let Some(sort) = parameters.sort {
            text = format!("{text} sort by {sort}");
        }
        let wanted = filter::Query::parse(&text)
            .map_err(|error| Failure::bad_request("INVALID_FILTER", error.to_string()))?;
        Ok(Self { wanted, limit: parameters.limit, offset: parameters.offset })
    }
}

/// The parameters of a question that is no list.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(parameters)| Self(parameters))
            .map_err(|error| Failure::bad_request("INVALID_FILTER", error.body_text()))
    }
}

/// The value of a field; a dot leads into an object.
fn value(entry: &Value, field: &str) -> Value {
    let found = field.split('.').try_fold(entry, |value, part| value.get(part));
    found.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(filter: &str) -> ListQuery {
        ListQuery { wanted: filter::Query::parse(filter).unwrap(), ..ListQuery::default() }
    }

    #[test]
    fn the_filter_pages_before_the_parameters() {
        let paged = ListQuery { limit: Some(7), offset: Some(3), ..query("true") };
        assert_eq!((paged.limit(), paged.offset()), (7, 3));
        let paged = ListQuery { limit: Some(7), offset: Some(3), ..query("true skip 1 limit 2") };
        assert_eq!((paged.limit(), paged.offset()), (2, 1));
        assert_eq!(query("limit none").limit(), MAX_LIMIT);
        assert_eq!(query("limit 100000").limit(), MAX_LIMIT);
        assert_eq!(query("").limit(), DEFAULT_LIMIT);
    }

    #[test]
    fn a_dot_leads_into_an_object() {
        let entry = json!({ "tags": { "site": "eu" } });
        assert!(query(r#"tags.site = "eu""#).admits(&entry));
        assert!(!query(r#"tags.site.x = "eu""#).admits(&entry));
    }

    #[test]
    fn a_field_that_does_not_exist_is_refused() {
        assert!(query("cost = 1 sort by name").check_fields(&["cost"]).is_ok());
        assert!(query("cots = 1").check_fields(&["cost"]).is_err());
        assert!(query("true sort by cots").check_fields(&["cost"]).is_err());
    }
}
