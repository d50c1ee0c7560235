//! What names, attributes and roles may be.

use std::collections::BTreeSet;

use nightgate_model::entity::Role;
use nightgate_store::{Kept, Model, Tags};
use serde_json::Value;

use crate::rest::Failure;

/// Longest name and attribute, in bytes.
const MAX_NAME: usize = 255;

/// Most attributes of an entity and roles of a policy.
const MAX_ATTRIBUTES: usize = 256;

/// Checks an entity's name.
pub(in crate::rest) fn name(name: &str) -> Result<(), Failure> {
    if is_printable(name) && !name.starts_with(['#', '@']) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "name {name:?}: expected 1 to {MAX_NAME} bytes without control characters, outer spaces \
         and a leading # or @"
    )))
}

/// Checks an entity's attributes.
pub(super) fn attributes(attributes: &BTreeSet<String>) -> Result<(), Failure> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Failure::invalid(format!("more than {MAX_ATTRIBUTES} attributes")));
    }
    let is_good = |attribute: &&String| {
        is_printable(attribute) && !attribute.starts_with(['#', '@']) && *attribute != "all"
    };
    match attributes.iter().find(|attribute| !is_good(attribute)) {
        None => Ok(()),
        Some(attribute) => Err(Failure::invalid(format!(
            "attribute {attribute:?}: expected 1 to {MAX_NAME} bytes without control characters, \
             outer spaces and a leading # or @, and not the word all"
        ))),
    }
}

/// Most tags of an entity.
const MAX_TAGS: usize = 64;

/// Longest text of a tag, in bytes.
const MAX_TAG: usize = 4096;

/// Checks what operators note beside an entity.
pub(super) fn tags(tags: &Tags) -> Result<(), Failure> {
    let is_good = |(word, value): (&String, &Value)| {
        let is_short = match value {
            Value::String(text) => text.len() <= MAX_TAG,
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
            Value::Array(_) | Value::Object(_) => false,
        };
        is_printable(word) && is_short
    };
    if tags.len() <= MAX_TAGS && tags.iter().all(is_good) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "tags: expected at most {MAX_TAGS}, each a word and a text of at most {MAX_TAG} bytes, a number, a boolean \
         or null"
    )))
}

/// Checks roles that select entities of one kind.
pub(super) fn roles<E: Kept>(roles: &[Role], model: &Model) -> Result<(), Failure> {
    if roles.len() > MAX_ATTRIBUTES {
        return Err(Failure::invalid(format!("more than {MAX_ATTRIBUTES} {} roles", E::KIND)));
    }
    let unknown = roles.iter().find(|role| match role {
        Role::Id(id) => model.find::<E>(id).is_none(),
        Role::All | Role::Attribute(_) => false,
    });
    match unknown {
        None => Ok(()),
        Some(role) => {
            Err(Failure::invalid(format!("role {role}: there is no {} with this id", E::KIND)))
        }
    }
}

/// Checks the format of names.
pub(super) fn name_format(format: &str) -> Result<(), Failure> {
    if is_printable(format) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "identityNameFormat {format:?}: expected 1 to {MAX_NAME} bytes without control characters and outer \
         spaces"
    )))
}

fn is_printable(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.trim() == text
        && !text.contains(char::is_control)
}
