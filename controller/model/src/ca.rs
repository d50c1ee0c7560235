//! Names of the identities that enroll with certificates of others.

/// OpenZiti's default.
pub const DEFAULT_NAME_FORMAT: &str = "[caName] - [commonName]";

/// What a name can be made of.
#[derive(Clone, Copy, Debug)]
pub struct NameParts<'a> {
    /// Id of the CA.
    pub ca_id: &'a str,
    /// Name of the CA.
    pub ca_name: &'a str,
    /// Common name of the certificate; empty if it has none.
    pub common_name: &'a str,
    /// The name that the client asks for; the common name if it asks for none.
    pub requested_name: &'a str,
    /// Id of the new identity.
    pub identity_id: &'a str,
}

/// The name of an identity that enrolls by itself: `format` with `[caId]`, `[caName]`, `[commonName]`,
/// `[requestedName]` and `[identityId]` replaced. What the parts themselves hold is not replaced again.
///
/// A name that is taken gets a number from 2 up behind it.
pub fn identity_name(format: &str, parts: NameParts<'_>, taken: impl Fn(&str) -> bool) -> String {
    let name = filled(format, parts);
    if !taken(&name) {
        return name;
    }
    (2_u64..).map(|number| format!("{name} {number}")).find(|name| !taken(name)).unwrap_or(name)
}

fn filled(format: &str, parts: NameParts<'_>) -> String {
    let places = [
        ("[caId]", parts.ca_id),
        ("[caName]", parts.ca_name),
        ("[commonName]", parts.common_name),
        ("[requestedName]", parts.requested_name),
        ("[identityId]", parts.identity_id),
    ];
    let (mut name, mut rest) = (String::new(), format);
    while let Some(at) = rest.find('[') {
        name.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, value) = places
            .iter()
            .find(|(place, _)| rest.starts_with(place))
            .map_or((1, "["), |(place, value)| (place.len(), *value));
        name.push_str(value);
        rest = &rest[length..];
    }
    name + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: NameParts<'_> = NameParts {
        ca_id: "c1",
        ca_name: "Acme",
        common_name: "[caId]",
        requested_name: "laptop",
        identity_id: "i1",
    };

    #[test]
    fn places_are_filled_once_and_other_brackets_stay() {
        let name = |format| identity_name(format, PARTS, |_| false);
        assert_eq!(name(DEFAULT_NAME_FORMAT), "Acme - [caId]");
        assert_eq!(name("[requestedName]/[identityId]/[caId]"), "laptop/i1/c1");
        assert_eq!(name("[x] é[["), "[x] é[[");
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let taken = ["laptop", "laptop 2"];
        let name = identity_name("[requestedName]", PARTS, |name| taken.contains(&name));
        assert_eq!(name, "laptop 3");
    }
}
