//! Which entities a policy's roles select.

use std::collections::BTreeSet;

use nightgate_model::entity::{EdgeRouter, Identity, Role, Semantic, Service};

/// An entity that roles can select.
pub(crate) struct Candidate<'a> {
    id: &'a str,
    attributes: &'a BTreeSet<String>,
}

/// Whether roles select an entity, and if not, what it lacks.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Selection<'a> {
    /// Selected.
    Selected,
    /// It would have to carry all of these attributes and lacks them.
    LacksEach(Vec<&'a str>),
    /// It would have to carry one of these attributes and carries none.
    LacksAny(Vec<&'a str>),
    /// The roles name other entities only.
    NotNamed,
}

impl<'a> From<&'a Identity> for Candidate<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self { id: identity.id.as_str(), attributes: &identity.role_attributes }
    }
}

impl<'a> From<&'a Service> for Candidate<'a> {
    fn from(service: &'a Service) -> Self {
        Self { id: service.id.as_str(), attributes: &service.role_attributes }
    }
}

impl<'a> From<&'a EdgeRouter> for Candidate<'a> {
    fn from(router: &'a EdgeRouter) -> Self {
        Self { id: router.id.as_str(), attributes: &router.role_attributes }
    }
}

/// Applies roles to an entity. `#all` and a matching `@id` select at once; the attributes combine by
/// `semantic`. Roles without any attribute select nothing by attribute.
pub(crate) fn select<'a>(
    roles: &'a [Role],
    semantic: Semantic,
    candidate: &Candidate<'_>,
) -> Selection<'a> {
    let mut attributes = Vec::new();
    for role in roles {
        match role {
            Role::All => return Selection::Selected,
            Role::Id(id) if id == candidate.id => return Selection::Selected,
            Role::Id(_) => {}
            Role::Attribute(attribute) => attributes.push(attribute.as_str()),
        }
    }
    if attributes.is_empty() {
        return Selection::NotNamed;
    }
    match semantic {
        Semantic::AnyOf if attributes.iter().any(|&a| candidate.attributes.contains(a)) => {
            Selection::Selected
        }
        Semantic::AnyOf => Selection::LacksAny(attributes),
        Semantic::AllOf => {
            attributes.retain(|&attribute| !candidate.attributes.contains(attribute));
            if attributes.is_empty() {
                Selection::Selected
            } else {
                Selection::LacksEach(attributes)
            }
        }
    }
}
