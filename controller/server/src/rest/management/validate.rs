//! What names, attributes and roles may be.

use std::collections::BTreeSet;

use nightgate_model::entity::Role;
use nightgate_store::{Kept, Model};

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
