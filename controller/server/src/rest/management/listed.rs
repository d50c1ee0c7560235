//! List and show: the same for every kind of thing that is no entity.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::Value;

use crate::{
    core::{Core, Memory},
    rest::{
        Failure, answer,
        caller::Admin,
        query::{ListQuery, Names},
    },
};

/// What operators list, and show by its id.
pub(super) trait Listed: 'static {
    /// What one of them is called, with its article.
    const NAME: &'static str;
    /// Fields that a list can be filtered and sorted by.
    const FIELDS: &'static [&'static str];
    /// One of them, as the memory holds it.
    type Entry<'a>;

    /// All of them.
    fn all(memory: &Memory) -> impl Iterator<Item = Self::Entry<'_>>;

    /// Its id, and the name that a list is sorted by.
    fn names(entry: &Self::Entry<'_>, memory: &Memory) -> Names;

    /// As operators are shown it.
    fn shape(entry: &Self::Entry<'_>, memory: &Memory) -> Value;

    /// The one with this id.
    fn find<'a>(memory: &'a Memory, id: &str) -> Option<Self::Entry<'a>> {
        Self::all(memory).find(|entry| Self::names(entry, memory).id == id)
    }
}

/// Answers with those that the query selects.
pub(super) async fn list<L: Listed>(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| answer_some::<L>(memory, &query, L::all(memory)))
}

/// Answers with those of these that the query selects.
pub(super) fn answer_some<'a, L: Listed>(
    memory: &'a Memory,
    query: &ListQuery,
    some: impl Iterator<Item = L::Entry<'a>>,
) -> Result<Response, Failure> {
    query.answer(L::FIELDS, some, |it| L::names(it, memory), |it| L::shape(it, memory))
}

/// Answers with one of them.
pub(super) async fn one<L: Listed>(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| Ok(answer::ok(L::shape(&found::<L>(memory, &id)?, memory))))
}

/// The one with this id.
pub(super) fn found<'a, L: Listed>(memory: &'a Memory, id: &str) -> Result<L::Entry<'a>, Failure> {
    L::find(memory, id).ok_or_else(|| Failure::not_found(L::NAME))
}
