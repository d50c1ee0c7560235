//! What names, attributes and roles may be.

use std::collections::BTreeSet;

use nightgate_model::entity::Role;

use crate::rest::Failure;

/// Longest name and attribute, in bytes.
const MAX_NAME: usize = 255;

/// Most attributes of an entity and roles of a policy.
const MAX_ATTRIBUTES: usize = 256;

/// Checks an entity's name.
pub(super) fn name(name: &str) -> Result<(), Failure> {
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

/// Checks a policy's roles; `exists` tells whether an entity with an id does.
pub(super) fn roles(
    kind: &str,
    roles: &[Role],
    exists: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    if roles.len() > MAX_ATTRIBUTES {
        return Err(Failure::invalid(format!("more than {MAX_ATTRIBUTES} {kind} roles")));
    }
    for role in roles {
        match role {
            Role::Id(id) if !exists(id) => {
                return Err(Failure::invalid(format!(
                    "role @{id}: there is no {kind} with this id"
                )));
            }
            Role::All | Role::Attribute(_) | Role::Id(_) => {}
        }
    }
    Ok(())
}

fn is_printable(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.trim() == text
        && !text.contains(char::is_control)
}
