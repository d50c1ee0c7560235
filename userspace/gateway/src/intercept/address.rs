//! What `intercept.v1` may name as an address.

use std::net::IpAddr;

use nightgate_ruleset::Network;

use crate::names::HostName;

/// An element of `addresses`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// An address or a CIDR.
    Network(Network),
    /// One host name.
    Name(HostName),
    /// `*.` and a domain: every name below it.
    Below(HostName),
}

/// Text that is no address, CIDR, host name or wildcard.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?}: expected an address, a CIDR such as 10.0.0.0/8, a host name, or *. and a domain")]
pub struct TargetError(String);

impl Target {
    /// Whether echo requests to it are answered: names and single addresses. Those to other hosts of a network go
    /// where they went before.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Network(network) => network.is_one(),
            Self::Name(_) | Self::Below(_) => true,
        }
    }
}

impl TryFrom<&str> for Target {
    type Error = TargetError;

    fn try_from(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        if let Some(network) = network(text) {
            return Ok(Self::Network(network));
        }
        if text.contains(['/', ':']) {
            return Err(wrong());
        }
        match text.strip_prefix("*.") {
            Some(domain) => HostName::try_from(domain).map(Self::Below).map_err(|_no_name| wrong()),
            None => HostName::try_from(text).map(Self::Name).map_err(|_no_name| wrong()),
        }
    }
}

/// Clients that may use a service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources(Vec<Network>);

impl Sources {
    /// Reads addresses and CIDRs; none of them for everybody.
    ///
    /// # Errors
    /// One is neither.
    pub fn new<S: AsRef<str>>(texts: &[S]) -> Result<Self, SourceError> {
        let read =
            |text: &S| network(text.as_ref()).ok_or_else(|| SourceError(text.as_ref().to_owned()));
        texts.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a client may.
    pub fn allow(&self, client: IpAddr) -> bool {
        let client = Network::host(client);
        self.0.is_empty() || self.0.iter().any(|network| network.contains(client))
    }
}

/// Text that is no address and no CIDR.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?}: expected an address or a CIDR such as 10.0.0.0/8")]
pub struct SourceError(String);

/// An address, or a CIDR; bits beyond the prefix do not matter.
fn network(text: &str) -> Option<Network> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    // Digits alone: the standard library would take a sign as well.
    let length = match length {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
        Some(_) => return None,
        None => whole,
    };
    (length <= whole).then(|| Network::new(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_cidrs_names_and_wildcards_are_told_apart() {
        let of = |text: &str| Target::try_from(text);
        let net = |address: &str, length| {
            Ok(Target::Network(Network::new(address.parse().unwrap(), length)))
        };
        assert_eq!(of("10.1.2.3"), net("10.1.2.3", 32));
        assert_eq!(of("10.1.2.3/8"), net("10.0.0.0", 8));
        assert_eq!(of("fd00::1"), net("fd00::1", 128));
        assert_eq!(of("fd00::/64"), net("fd00::", 64));
        assert_eq!(of("Db.Corp."), Ok(Target::Name(HostName::try_from("db.corp").unwrap())));
        assert_eq!(of("*.Corp"), Ok(Target::Below(HostName::try_from("corp").unwrap())));
        for wrong in [
            "",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "*",
            "*.",
            "a.*.b",
            "a/b",
            "x:1",
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn clients_are_allowed_by_their_networks() {
        let sources = Sources::new(&["10.1.0.0/16", "fd00:1::/64"]).unwrap();
        for (client, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00:1::9", true),
            ("fd00:2::9", false),
        ] {
            assert_eq!(sources.allow(client.parse().unwrap()), allowed, "{client}");
        }
        assert!(Sources::default().allow([192, 0, 2, 1].into()));
        assert!(Sources::new(&["lan"]).is_err());
    }
}
