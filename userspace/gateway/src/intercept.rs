//! What this gateway intercepts: the services its identity may dial, with their destinations.

mod address;
mod dial;
mod reachable;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use nightgate_abi::{Intercept, intercept::flags, limits};
use nightgate_model::{
    configs::{ConfigShapeError, EndToEndV1, InterceptV1, Protocol},
    entity::{Permission, Service},
    id::{IdentityId, ServiceId},
    replica::Replica,
};
use nightgate_packet::protocol;
use nightgate_ruleset::{Destination, InterceptImage, Network, TooManyDestinations};

use crate::{
    dns::{Clients, NameTable},
    hosted::{HostedName, HostedNumbers, HostedTable},
    names::{HostName, Names, SyntheticRanges},
};

use address::Target;
pub use address::{SourceError, Sources, TargetError};
pub use dial::{DialPlan, Passage};
pub use table::{Encryption, InterceptTable, InterceptedService, ServiceTag};

/// Compiles intercept tables; remembers what must not change from one to the next.
#[derive(Clone, Debug)]
pub struct Intercepts {
    identity: IdentityId,
    names: Names,
    tags: BTreeMap<ServiceId, ServiceTag>,
    last_tag: u32,
    hosted: HostedNumbers,
}

/// Why a service, or a part of it, is not intercepted.
#[derive(Debug, thiserror::Error)]
pub enum InterceptProblem {
    /// Its `intercept.v1` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigShapeError),
    /// It has an address that is none.
    #[error("service {service}: intercept.v1 addresses: {source}")]
    Address {
        /// The service's name.
        service: String,
        /// The address.
        source: TargetError,
    },
    /// Its clients cannot be told; nobody may use it.
    #[error(
        "service {service}: intercept.v1 allowedSourceAddresses: {source}; it is not intercepted"
    )]
    Source {
        /// The service's name.
        service: String,
        /// The address.
        source: SourceError,
    },
    /// There is no synthetic address left for a name.
    #[error(
        "host name {name}: no synthetic address is left; expected a larger dns.range_v4 or range_v6"
    )]
    NoAddress {
        /// The name.
        name: HostName,
    },
    /// There is no block of synthetic addresses left for a domain.
    #[error(
        "*.{domain}: no block of synthetic addresses is left; expected a larger dns.range_v4 or range_v6, at \
         least /25 and /121"
    )]
    NoBlock {
        /// The domain.
        domain: HostName,
    },
    /// It has more destinations than the kernel's table has room for.
    #[error("service {service}: {needed} destinations, expected at most {left}: the table is full")]
    NoRoom {
        /// The service's name.
        service: String,
        /// Networks times ranges of ports.
        needed: usize,
        /// Free entries of the table.
        left: usize,
    },
    /// Other services have all of its destinations.
    #[error("service {service}: other services intercept all of its addresses and ports already")]
    Covered {
        /// The service's name.
        service: String,
    },
    /// The table is too large; nothing is intercepted.
    #[error(transparent)]
    TooMany(#[from] TooManyDestinations),
}

/// Destinations of all services: their networks, for each its protocols and ranges of ports.
const DESTINATIONS: usize = limits::INTERCEPT_RANGES / 2;

/// Type and code of an ICMP echo request (RFC 792), as a port.
pub const ECHO: u16 = 8 << 8;

/// Type and code of an ICMPv6 echo request (RFC 4443 section 4.1), as a port.
pub const ECHO_V6: u16 = 128 << 8;

/// A service that may be dialed, and what it intercepts.
struct Wanted<'a> {
    service: &'a Service,
    intercept: InterceptV1,
    targets: Vec<Target>,
    sources: Sources,
}

impl Intercepts {
    /// Starts without any name or service.
    pub fn new(identity: IdentityId, ranges: SyntheticRanges) -> Self {
        Self {
            identity,
            names: Names::new(ranges),
            tags: BTreeMap::new(),
            last_tag: 0,
            hosted: HostedNumbers::default(),
        }
    }

    /// Compiles what `replica` allows this gateway to dial, and lists what was left out.
    pub fn compile(&mut self, replica: &Replica) -> (InterceptTable, Vec<InterceptProblem>) {
        let mut problems = Vec::new();
        let services = self.dialable(replica, &mut problems);
        let names = self.assign(&services, &mut problems);
        self.tags.retain(|id, _| replica.services.contains_key(id));

        let reachable = reachable::services(replica, &self.identity);
        let (mut destinations, mut intercepted) = (Vec::new(), Vec::new());
        for wanted in &services {
            let tag = self.tag(&wanted.service.id);
            let own = self.destinations(wanted, tag, reachable.contains(&wanted.service.id));
            let (needed, left) = (own.len(), DESTINATIONS.saturating_sub(destinations.len()));
            let name = wanted.service.name.clone();
            // All of a service or nothing of it: half a service would work by chance.
            if needed > left {
                problems.push(InterceptProblem::NoRoom { service: name, needed, left });
                continue;
            }
            destinations.extend(own);
            intercepted.push(InterceptedService {
                id: wanted.service.id.clone(),
                name,
                tag,
                encryption: Encryption::of(wanted.service),
                early_data: EndToEndV1::allows_early_data(&wanted.service.config),
                dial: DialPlan::new(&wanted.intercept),
                sources: wanted.sources.clone(),
            });
        }
        let image = match InterceptImage::compile(&destinations) {
            Ok(image) => image,
            Err(error) => {
                problems.push(error.into());
                return (InterceptTable::default(), problems);
            }
        };
        let has_part: BTreeSet<u32> = image.services().collect();
        let ports = |d: &&Destination| d.ports.0 <= d.ports.1;
        let asks: BTreeSet<u32> =
            destinations.iter().filter(ports).map(|d| d.value.service).collect();
        for service in &intercepted {
            let tag = service.tag.number();
            if asks.contains(&tag) && !has_part.contains(&tag) {
                problems.push(InterceptProblem::Covered { service: service.name.clone() });
            }
        }
        let own = replica.identities.get(&self.identity);
        let dialer = own.map(|own| own.name.clone()).unwrap_or_default();
        (InterceptTable::new(image, intercepted, names).dialed_by(dialer), problems)
    }

    /// Dialable services with their intercepts, in the order of their names: the first one to name a
    /// destination has it.
    fn dialable<'a>(
        &self,
        replica: &'a Replica,
        problems: &mut Vec<InterceptProblem>,
    ) -> Vec<Wanted<'a>> {
        let mut services = Vec::new();
        let ids = replica.authorizations.services(&self.identity, Permission::Dial);
        for service in ids.filter_map(|id| replica.services.get(id)) {
            match service.intercept() {
                Ok(Some(intercept)) => services.extend(wanted(service, intercept, problems)),
                Ok(None) => {}
                Err(error) => problems.push(error.into()),
            }
        }
        let key = |wanted: &Wanted<'a>| (&wanted.service.name, &wanted.service.id);
        services.sort_by(|one, other| key(one).cmp(&key(other)));
        services
    }

    /// Gives names and domains their addresses.
    fn assign(
        &mut self,
        services: &[Wanted<'_>],
        problems: &mut Vec<InterceptProblem>,
    ) -> NameTable {
        let mut names = BTreeMap::<HostName, Clients>::new();
        let mut domains = BTreeMap::<HostName, Clients>::new();
        for wanted in services {
            for target in &wanted.targets {
                let clients = match target {
                    Target::Network(_) => continue,
                    Target::Name(name) => names.entry(name.clone()),
                    Target::Below(domain) => domains.entry(domain.clone()),
                };
                clients.or_default().add(wanted.sources.clone());
            }
        }
        for name in self.names.assign(&names.keys().cloned().collect()) {
            problems.push(InterceptProblem::NoAddress { name });
        }
        for domain in self.names.assign_domains(&domains.keys().cloned().collect()) {
            problems.push(InterceptProblem::NoBlock { domain });
        }
        let names = names.into_iter().filter_map(|(name, clients)| {
            let addresses = self.names.addresses(&name)?;
            Some((name, (addresses, clients)))
        });
        let (below, networks) = (self.names.below().clone(), self.names.networks().to_vec());
        NameTable::new(names.collect(), domains, below, networks)
    }

    fn destinations(
        &self,
        wanted: &Wanted<'_>,
        tag: ServiceTag,
        is_reachable: bool,
    ) -> Vec<Destination> {
        let networks: BTreeSet<Network> =
            wanted.targets.iter().flat_map(|target| self.networks(target)).collect();
        let value = Intercept::new(tag.number(), 0);
        let mut doors = Vec::new();
        for protocol in &wanted.intercept.protocols {
            let protocol = match protocol {
                Protocol::Tcp => protocol::TCP,
                Protocol::Udp => protocol::UDP,
            };
            let ranges = wanted.intercept.port_ranges.iter();
            doors.extend(ranges.map(|range| (protocol, (range.low.max(1), range.high))));
        }
        let of = |network: Network| {
            doors.iter().map(move |(protocol, ports)| Destination {
                network,
                protocol: *protocol,
                ports: *ports,
                value,
            })
        };
        let echoes = wanted.targets.iter().filter(|target| target.is_answered());
        let echoes = echoes.flat_map(|target| self.networks(target)).collect::<BTreeSet<_>>();
        let mut value = value;
        value.flags = if is_reachable { flags::REACHABLE } else { 0 };
        let echo = |network: Network| {
            let (protocol, message) =
                if network.is_v4() { (protocol::ICMP, ECHO) } else { (protocol::ICMPV6, ECHO_V6) };
            Destination { network, protocol, ports: (message, message), value }
        };
        networks.into_iter().flat_map(of).chain(echoes.into_iter().map(echo)).collect()
    }

    fn networks(&self, target: &Target) -> Vec<Network> {
        match target {
            Target::Network(network) => vec![*network],
            Target::Name(name) => {
                let addresses = self.names.addresses(name);
                addresses.iter().flat_map(|both| both.iter().map(Network::host)).collect()
            }
            Target::Below(domain) => {
                let block = self.names.below().lock().block(domain);
                let networks = block.map(|block| {
                    let (v4, v6) = (block.v4, block.v6);
                    [Network::new(v4.0.into(), v4.1), Network::new(v6.0.into(), v6.1)]
                });
                networks.into_iter().flatten().collect()
            }
        }
    }

    /// What is hosted, as the kernel can tell it apart: see [`HostedNumbers::table`].
    pub(crate) fn host(
        &mut self,
        services: &BTreeMap<ServiceId, String>,
        dialers: &BTreeSet<String>,
        differs: impl Fn(&str, &str) -> bool,
    ) -> HostedTable {
        let service = |(id, name): (&ServiceId, &String)| {
            (id.clone(), HostedName { name: name.clone(), tag: self.tag(id) })
        };
        let services = services.iter().map(service).collect();
        self.hosted.table(&services, dialers, differs)
    }

    fn tag(&mut self, id: &ServiceId) -> ServiceTag {
        let last_tag = &mut self.last_tag;
        *self.tags.entry(id.clone()).or_insert_with(|| {
            *last_tag = last_tag.saturating_add(1);
            ServiceTag::new(NonZeroU32::new(*last_tag).unwrap_or(NonZeroU32::MIN))
        })
    }
}

/// Reads what a service intercepts; none of it if its clients cannot be told.
fn wanted<'a>(
    service: &'a Service,
    intercept: InterceptV1,
    problems: &mut Vec<InterceptProblem>,
) -> Option<Wanted<'a>> {
    let name = || service.name.clone();
    let sources = match Sources::new(&intercept.allowed_source_addresses) {
        Ok(sources) => sources,
        Err(source) => {
            problems.push(InterceptProblem::Source { service: name(), source });
            return None;
        }
    };
    let mut targets = Vec::new();
    for address in &intercept.addresses {
        match Target::try_from(address.as_str()) {
            Ok(target) => targets.push(target),
            Err(source) => problems.push(InterceptProblem::Address { service: name(), source }),
        }
    }
    Some(Wanted { service, intercept, targets, sources })
}

#[cfg(test)]
mod tests;
