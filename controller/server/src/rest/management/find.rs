//! What an operator calls by its name or its id.

use std::collections::BTreeMap;

use nightgate_model::entity::{EdgeRouter, Identity, Service};
use nightgate_store::Stored;

use crate::core::Memory;

pub(super) fn identity<'a>(memory: &'a Memory, wanted: &str) -> Option<&'a Identity> {
    find(&memory.model.identities, |it| it.name == wanted || it.id.as_str() == wanted)
}

pub(super) fn service<'a>(memory: &'a Memory, wanted: &str) -> Option<&'a Service> {
    find(&memory.model.services, |it| it.name == wanted || it.id.as_str() == wanted)
}

pub(super) fn router<'a>(memory: &'a Memory, wanted: &str) -> Option<&'a EdgeRouter> {
    find(&memory.model.routers, |it| it.name == wanted || it.id.as_str() == wanted)
}

fn find<Id, E>(all: &BTreeMap<Id, Stored<E>>, is_wanted: impl Fn(&E) -> bool) -> Option<&E> {
    all.values().map(|stored| &stored.entity).find(|entity| is_wanted(entity))
}
