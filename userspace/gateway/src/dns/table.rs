//! The names that may be dialed, with their synthetic addresses.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use nightgate_ruleset::Network;

use crate::{
    intercept::Sources,
    names::{HostName, NameAddresses, SharedDomains},
};

/// The names that may be dialed.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    names: BTreeMap<HostName, (NameAddresses, Clients)>,
    by_address: BTreeMap<IpAddr, HostName>,
    domains: BTreeMap<HostName, Clients>,
    below: SharedDomains,
    synthetic: Vec<Network>,
}

/// What a name is to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// It has these addresses.
    Addresses(NameAddresses),
    /// There is no such name, as far as the client may know.
    Nothing,
    /// There is no address left for it.
    Full,
}

/// Who may know a name: the clients of any service that has it.
#[derive(Clone, Debug, Default)]
pub struct Clients(Vec<Sources>);

impl Clients {
    /// Adds the clients of another service.
    pub fn add(&mut self, sources: Sources) {
        self.0.push(sources);
    }

    fn include(&self, client: IpAddr) -> bool {
        self.0.iter().any(|sources| sources.allow(client))
    }
}

impl NameTable {
    /// A table of names, and of domains whose names get addresses when they are asked for; with the networks that all
    /// of them have their addresses from.
    pub fn new(
        names: BTreeMap<HostName, (NameAddresses, Clients)>,
        domains: BTreeMap<HostName, Clients>,
        below: SharedDomains,
        synthetic: Vec<Network>,
    ) -> Self {
        let pairs = names.iter().flat_map(|(name, (addresses, _))| {
            addresses.iter().map(move |address| (address, name.clone()))
        });
        let by_address = pairs.collect();
        Self { names, by_address, domains, below, synthetic }
    }

    /// The synthetic addresses of a name as it is written in a query, for a client that may know them.
    pub fn lookup(&self, name: &str, client: IpAddr, now: Instant) -> Found {
        let Ok(name) = HostName::try_from(name) else { return Found::Nothing };
        if let Some((addresses, clients)) = self.names.get(&name) {
            let addresses = Found::Addresses(*addresses);
            return if clients.include(client) { addresses } else { Found::Nothing };
        }
        let Some((domain, clients)) = self.domain_of(&name) else { return Found::Nothing };
        if !clients.include(client) {
            return Found::Nothing;
        }
        let addresses = self.below.lock().addresses(domain, &name, now);
        addresses.map_or(Found::Full, Found::Addresses)
    }

    /// Whether a name, as it is written in a query, is known to anybody.
    pub fn has(&self, name: &str) -> bool {
        let known =
            |name: &HostName| self.names.contains_key(name) || self.domain_of(name).is_some();
        HostName::try_from(name).is_ok_and(|name| known(&name))
    }

    /// Whether an address is one that names get.
    pub fn is_synthetic(&self, address: IpAddr) -> bool {
        self.synthetic.iter().any(|network| network.contains(Network::host(address)))
    }

    fn domain_of(&self, name: &HostName) -> Option<(&HostName, &Clients)> {
        name.parents().find_map(|parent| self.domains.get_key_value(&parent))
    }

    /// The names in alphabetical order, without those below domains.
    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &NameAddresses)> {
        self.names.iter().map(|(name, (addresses, _))| (name, addresses))
    }

    /// The name behind a synthetic address.
    pub fn name_of(&self, address: IpAddr) -> Option<HostName> {
        let address = address.to_canonical();
        match self.by_address.get(&address) {
            Some(name) => Some(name.clone()),
            None => self.below.lock().name_of(address).cloned(),
        }
    }

    /// The name behind a synthetic address, for a client that may know it.
    pub fn reverse(&self, address: IpAddr, client: IpAddr) -> Option<HostName> {
        let name = self.name_of(address)?;
        let clients = match self.names.get(&name) {
            Some((_, clients)) => clients,
            None => self.domain_of(&name)?.1,
        };
        clients.include(client).then_some(name)
    }
}

impl FromIterator<(HostName, NameAddresses)> for NameTable {
    /// Names that everybody may know.
    fn from_iter<I: IntoIterator<Item = (HostName, NameAddresses)>>(names: I) -> Self {
        let everybody = Clients(vec![Sources::default()]);
        let names =
            names.into_iter().map(|(name, addresses)| (name, (addresses, everybody.clone())));
        Self::new(names.collect(), BTreeMap::new(), SharedDomains::default(), Vec::new())
    }
}
