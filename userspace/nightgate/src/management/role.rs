//! Roles as people write them: `#all`, `#attribute`, `@name-or-id`.

use nightgate_model::entity::Role;

use super::client::{ManagementClient, Named};

/// Replaces names by ids.
pub(super) async fn resolve(
    client: &ManagementClient,
    kind: &str,
    roles: &[Role],
) -> anyhow::Result<Vec<Role>> {
    let mut resolved = Vec::with_capacity(roles.len());
    for role in roles {
        resolved.push(match role {
            Role::All | Role::Attribute(_) => role.clone(),
            Role::Id(name) => Role::Id(client.find::<Named>(kind, name).await?.id),
        });
    }
    Ok(resolved)
}

/// Reads a role.
pub(super) fn parse(text: &str) -> Result<Role, String> {
    Role::try_from(text.to_owned()).map_err(|_error| {
        "expected #all, #attribute or @name; quote it: the shell takes # for a comment".to_owned()
    })
}

/// Replaces ids by names where they are known.
pub(super) fn shown(roles: &[Role], known: &[Named]) -> String {
    super::joined(roles.iter().map(|role| match role {
        Role::Id(id) => match known.iter().find(|named| named.id == *id) {
            Some(named) => format!("@{}", named.name),
            None => role.to_string(),
        },
        Role::All | Role::Attribute(_) => role.to_string(),
    }))
}
