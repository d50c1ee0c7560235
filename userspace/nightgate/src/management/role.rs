//! Roles as people write them: `#all`, `#attribute`, `@name-or-id`.

use nightgate_model::entity::{Role, Semantic};

/// Reads a role.
pub(super) fn parse(text: &str) -> Result<Role, String> {
    Role::try_from(text.to_owned()).map_err(|_error| {
        "expected #all, #attribute or @name; quote it: the shell takes # for a comment".to_owned()
    })
}

/// How the attributes of a policy combine, for a table.
pub(super) fn semantic(semantic: Semantic) -> &'static str {
    match semantic {
        Semantic::AllOf => "all of",
        Semantic::AnyOf => "any of",
    }
}
