//! What is intercepted: the services that the identity may dial, by destination and by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use nightgate_abi::tunnel::{DNS_SERVICE, DOORS, Door, Doors};
use nightgate_datapath::Destinations;
use nightgate_gateway::{
    intercept::{DialPlan, Sources},
    names::{HostName, NameAddresses, Names, SyntheticRanges},
};
use nightgate_model::configs::{AddressPattern, InterceptV1, IpPrefix, Protocol};
use nightgate_sdk::{Permission, Service, ServiceId};

/// Where names get addresses from that no host has.
pub const RANGES: SyntheticRanges = SyntheticRanges {
    v4: (Ipv4Addr::new(100, 64, 0, 0), 10),
    v6: (Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0), 64),
};

/// Names that wildcards may have brought at one time; others are not answered.
const MAX_LEARNED: usize = 4_096;

/// What is intercepted at one time, and what must not change from one time to the next.
#[derive(Debug)]
pub struct Table {
    names: Names,
    services: BTreeMap<u32, Intercepted>,
    numbers: BTreeMap<ServiceId, u32>,
    /// Names that were asked for and that a wildcard fits.
    learned: BTreeSet<HostName>,
    /// What has an address, by name and by address.
    known: BTreeMap<HostName, NameAddresses>,
    by_address: BTreeMap<IpAddr, HostName>,
    /// Ports of TCP that are never intercepted.
    left_alone: BTreeSet<SocketAddr>,
}

/// A service that is intercepted.
#[derive(Clone, Debug)]
pub struct Intercepted {
    /// Its name.
    pub name: String,
    /// How it is dialed.
    pub dial: DialPlan,
    /// From which of the host's addresses it may be used.
    pub sources: Sources,
    patterns: Vec<AddressPattern>,
    config: InterceptV1,
}

/// A service that is not intercepted, or not all of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("service {service}: intercept.v1: {detail}")]
pub struct TableProblem {
    service: String,
    detail: String,
}

impl Table {
    /// Intercepts nothing yet.
    pub fn new() -> Self {
        Self {
            names: Names::new(RANGES),
            services: BTreeMap::new(),
            numbers: BTreeMap::new(),
            learned: BTreeSet::new(),
            known: BTreeMap::new(),
            by_address: BTreeMap::new(),
            left_alone: BTreeSet::new(),
        }
    }

    /// Leaves connections to these ports alone, from the next [`Self::update`] on.
    pub fn leave_alone(&mut self, ports: BTreeSet<SocketAddr>) {
        self.left_alone = ports;
    }

    /// Takes what the identity may dial now; gives what the kernel has to know, and what was left out.
    pub fn update(&mut self, services: &[Service]) -> (Destinations, Vec<TableProblem>) {
        let mut problems = Vec::new();
        self.services.clear();
        let dialable = services.iter().filter(|it| it.permissions.contains(&Permission::Dial));
        for service in dialable {
            match intercepted(service, &mut problems) {
                Some(intercepted) => {
                    let number = self.number(&service.id);
                    self.services.insert(number, intercepted);
                }
                None => continue,
            }
        }
        let destinations = self.destinations(&mut problems);
        (destinations, problems)
    }

    /// Gives a name that somebody asks for its addresses, if it is one of a service. The second part is what the
    /// kernel has to know from now on, if that has changed.
    pub fn resolve(&mut self, name: &HostName) -> Option<(NameAddresses, Option<Destinations>)> {
        if let Some(addresses) = self.known.get(name) {
            return Some((*addresses, None));
        }
        let fits = |pattern: &AddressPattern| pattern.matches_name(name.as_str());
        let wanted = self.services.values().any(|service| service.patterns.iter().any(fits));
        if !wanted || self.learned.len() >= MAX_LEARNED {
            return None;
        }
        self.learned.insert(name.clone());
        let destinations = self.destinations(&mut Vec::new());
        self.known.get(name).map(|addresses| (*addresses, Some(destinations)))
    }

    /// Numbers and names of the services.
    pub fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.services.iter().map(|(number, service)| (*number, service.name.as_str()))
    }

    /// The service of a number that the kernel told.
    pub fn service(&self, number: u32) -> Option<&Intercepted> {
        self.services.get(&number)
    }

    /// Whether `allows` some service of this name, by the sources that the service allows.
    pub fn shows(&self, name: &HostName, allows: impl Fn(&Sources) -> bool) -> bool {
        let fits = |pattern: &AddressPattern| pattern.matches_name(name.as_str());
        let mut named = self.services.values().filter(|it| it.patterns.iter().any(fits));
        named.any(|service| allows(&service.sources))
    }

    /// The name that has this address.
    pub fn name_of(&self, address: IpAddr) -> Option<&HostName> {
        self.by_address.get(&address)
    }

    /// Numbers stay those of their services, so that none means another to a connection under way.
    pub fn number(&mut self, id: &ServiceId) -> u32 {
        let next = self.numbers.values().max().map_or(1, |last| last.wrapping_add(1));
        let number = *self.numbers.entry(id.clone()).or_insert(next);
        debug_assert_ne!(number, DNS_SERVICE, "more services than numbers");
        number
    }

    fn destinations(&mut self, problems: &mut Vec<TableProblem>) -> Destinations {
        self.assign_names(problems);
        let mut prefixes: BTreeMap<(IpAddr, u8), Vec<Door>> = BTreeMap::new();
        for (number, service) in &self.services {
            for pattern in &service.patterns {
                for (address, length) in self.prefixes(pattern) {
                    let doors = prefixes.entry((address, length)).or_default();
                    doors.extend(service.doors(*number));
                }
            }
        }
        for port in &self.left_alone {
            let length = if port.is_ipv4() { 32 } else { 128 };
            prefixes.entry((port.ip(), length)).or_default().insert(0, no_service(port.port()));
        }
        prefixes
            .keys()
            .map(|prefix| {
                let doors = covering(&prefixes, *prefix);
                if doors.len() > DOORS {
                    let (address, length) = prefix;
                    problems.push(TableProblem {
                        service: "*".into(),
                        detail: format!(
                            "{} port ranges at {address}/{length}, expected at most {DOORS}: the rest is not intercepted",
                            doors.len()
                        ),
                    });
                }
                (*prefix, image(&doors))
            })
            .collect()
    }

    fn assign_names(&mut self, problems: &mut Vec<TableProblem>) {
        let patterns = || self.services.values().flat_map(|service| &service.patterns);
        let named = patterns().filter_map(|pattern| match pattern {
            AddressPattern::Name(name) => HostName::try_from(name.as_str()).ok(),
            AddressPattern::Below(_) | AddressPattern::Prefix(_) => None,
        });
        let mut wanted: BTreeSet<HostName> = named.collect();
        let fits = |name: &HostName| patterns().any(|it| it.matches_name(name.as_str()));
        let learned: BTreeSet<_> = self.learned.iter().filter(|name| fits(name)).cloned().collect();
        wanted.extend(learned.iter().cloned());
        self.learned = learned;
        for name in self.names.assign(&wanted) {
            let detail = format!("no address is left for {name}");
            problems.push(TableProblem { service: "*".into(), detail });
        }
        let addresses = |name: HostName| Some((name.clone(), self.names.addresses(&name)?));
        self.known = wanted.into_iter().filter_map(addresses).collect();
        let by_address = self.known.iter().flat_map(|(name, addresses)| {
            addresses.iter().map(move |address| (address, name.clone())).collect::<Vec<_>>()
        });
        self.by_address = by_address.collect();
    }

    fn prefixes(&self, pattern: &AddressPattern) -> Vec<(IpAddr, u8)> {
        if let AddressPattern::Prefix(prefix) = pattern {
            return vec![(network(*prefix), prefix.length())];
        }
        let named = self.known.iter().filter(|(name, _)| pattern.matches_name(name.as_str()));
        named
            .flat_map(|(_, addresses)| addresses.iter().collect::<Vec<_>>())
            .map(|address| (address, if address.is_ipv4() { 32 } else { 128 }))
            .collect()
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Intercepted {
    fn doors(&self, number: u32) -> impl Iterator<Item = Door> {
        self.config.protocols.iter().flat_map(move |protocol| {
            let protocol = match protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
            };
            let ranges = self.config.port_ranges.iter().filter(|range| range.low <= range.high);
            ranges.map(move |range| Door {
                service: number,
                low: range.low,
                high: range.high,
                protocol,
                pad: [0; 3],
            })
        })
    }
}

fn intercepted(service: &Service, problems: &mut Vec<TableProblem>) -> Option<Intercepted> {
    let document = service.config.get(InterceptV1::TYPE)?;
    let name = service.name.clone();
    let config: InterceptV1 = match serde_json::from_value(document.clone()) {
        Ok(config) => config,
        Err(error) => {
            problems.push(TableProblem { service: name, detail: error.to_string() });
            return None;
        }
    };
    let sources = match Sources::new(&config.allowed_source_addresses) {
        Ok(sources) => sources,
        Err(error) => {
            let detail = format!("allowedSourceAddresses: {error}; the service is not intercepted");
            problems.push(TableProblem { service: name, detail });
            return None;
        }
    };
    let mut patterns = Vec::new();
    for address in &config.addresses {
        match AddressPattern::parse(address) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                problems.push(TableProblem { service: name.clone(), detail: error.to_string() });
            }
        }
    }
    Some(Intercepted { name, dial: DialPlan::new(&config), sources, patterns, config })
}

/// A port of TCP that is no service's, whatever the prefixes around it say.
fn no_service(port: u16) -> Door {
    Door { service: 0, low: port, high: port, protocol: 6, pad: [0; 3] }
}

/// The doors of a prefix and of those around it, the narrowest prefix first.
fn covering(
    prefixes: &BTreeMap<(IpAddr, u8), Vec<Door>>,
    (address, length): (IpAddr, u8),
) -> Vec<Door> {
    let lengths = (0..=length).rev();
    let around = lengths.filter_map(|length| {
        let prefix = IpPrefix::new(address, length)?;
        prefixes.get(&(network(prefix), length))
    });
    around.flatten().copied().collect()
}

fn image(doors: &[Door]) -> Doors {
    let mut image = Doors::default();
    for (slot, door) in image.doors.iter_mut().zip(doors) {
        *slot = *door;
        image.count += 1;
    }
    image
}

/// A prefix's address without the bits that do not count.
fn network(prefix: IpPrefix) -> IpAddr {
    let zero: IpAddr = match prefix.address() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let whole = IpPrefix::new(zero, prefix.length());
    whole.and_then(|whole| whole.onto(zero, prefix.address())).unwrap_or(zero)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn service(name: &str, addresses: &[&str], ports: (u16, u16)) -> Service {
        let config = json!({
            "protocols": ["tcp"], "addresses": addresses,
            "portRanges": [{ "low": ports.0, "high": ports.1 }],
        });
        Service {
            id: ServiceId::new(name),
            name: name.into(),
            permissions: vec![Permission::Dial],
            encryption_required: true,
            native_ends: Vec::new(),
            config: BTreeMap::from([("intercept.v1".to_owned(), config)]),
        }
    }

    fn at<'a>(
        table: &'a Table,
        destinations: &Destinations,
        address: &str,
        port: u16,
    ) -> Option<&'a str> {
        let address: IpAddr = address.parse().unwrap();
        let length = if address.is_ipv4() { 32 } else { 128 };
        let longest = (0..=length).rev().find_map(|length| {
            destinations.get(&(network(IpPrefix::new(address, length)?), length))
        })?;
        let doors = &longest.doors[..longest.count as usize];
        let door = doors.iter().find(|door| (door.low..=door.high).contains(&port))?;
        table.service(door.service).map(|service| service.name.as_str())
    }

    #[test]
    fn the_narrowest_prefix_that_has_the_port_counts() {
        let mut table = Table::new();
        let (destinations, problems) = table.update(&[
            service("wide", &["10.0.0.0/8", "fd00::/16"], (1, 1_000)),
            service("narrow", &["10.1.2.3", "fd00::7"], (80, 80)),
        ]);
        assert_eq!(problems, []);
        for (host, other) in [("10.1.2.3", "10.9.9.9"), ("fd00::7", "fd00::8")] {
            assert_eq!(at(&table, &destinations, host, 80), Some("narrow"));
            assert_eq!(at(&table, &destinations, host, 81), Some("wide"));
            assert_eq!(at(&table, &destinations, host, 1_001), None);
            assert_eq!(at(&table, &destinations, other, 80), Some("wide"));
        }
        assert_eq!(at(&table, &destinations, "11.0.0.1", 80), None);
    }

    #[test]
    fn ports_that_are_left_alone_are_nobodys() {
        let mut table = Table::new();
        table.leave_alone(BTreeSet::from(["10.1.2.3:443".parse().unwrap()]));
        let (destinations, _) = table.update(&[service("all", &["10.0.0.0/8"], (1, 65_535))]);
        assert_eq!(at(&table, &destinations, "10.1.2.3", 443), None);
        assert_eq!(at(&table, &destinations, "10.1.2.3", 80), Some("all"));
        assert_eq!(at(&table, &destinations, "10.1.2.4", 443), Some("all"));
    }

    #[test]
    fn names_get_addresses_that_lead_to_their_service() {
        let mut table = Table::new();
        let services =
            [service("web", &["web.corp"], (80, 80)), service("any", &["*.corp"], (1, 65_535))];
        table.update(&services);
        let name = |text| HostName::try_from(text).unwrap();
        let (web, changed) = table.resolve(&name("web.corp")).unwrap();
        assert!(changed.is_none());
        let (db, changed) = table.resolve(&name("db.corp")).unwrap();
        let destinations = changed.unwrap();
        assert_eq!(at(&table, &destinations, &web.v4.to_string(), 80), Some("web"));
        assert_eq!(at(&table, &destinations, &web.v6.to_string(), 443), Some("any"));
        assert_eq!(at(&table, &destinations, &db.v6.to_string(), 5_432), Some("any"));
        assert_eq!(table.name_of(db.v4.into()), Some(&name("db.corp")));
        assert!(table.resolve(&name("corp")).is_none());
        assert!(table.resolve(&name("db.elsewhere")).is_none());

        table.update(&services[..1]);
        assert!(table.resolve(&name("db.corp")).is_none(), "its service has gone");
        assert_eq!(table.resolve(&name("web.corp")).unwrap().0, web);
    }

    #[test]
    fn a_name_is_shown_to_the_sources_of_one_of_its_services() {
        let restricted = |name, sources| {
            let mut service = service(name, &["*.corp"], (80, 80));
            service.config.get_mut("intercept.v1").unwrap()["allowedSourceAddresses"] = sources;
            service
        };
        let mut table = Table::new();
        let (destinations, problems) = table.update(&[
            restricted("one", json!(["10.1.0.0/16"])),
            restricted("two", json!(["fd01::/64"])),
            restricted("none", json!(["lan"])),
        ]);
        let name = HostName::try_from("db.corp").unwrap();
        let shown = |source: &str| {
            let source = source.parse().unwrap();
            table.shows(&name, |sources| sources.allow(source))
        };
        assert!(destinations.is_empty(), "nobody has asked yet");
        assert!(shown("10.1.2.3") && shown("fd01::1") && !shown("10.2.0.1"));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.to_string().contains("service none"), "{problem}");
    }

    #[test]
    fn what_may_not_be_dialed_or_cannot_be_read_is_left_out() {
        let mut hosted = service("hosted", &["10.0.0.1"], (80, 80));
        hosted.permissions = vec![Permission::Bind];
        let mut broken = service("broken", &["10.0.0.2"], (80, 80));
        broken.config.insert("intercept.v1".into(), json!({ "addresses": 7 }));
        let half = service("half", &["not a name", "10.0.0.3"], (80, 80));
        let mut table = Table::new();

        let (destinations, problems) = table.update(&[hosted, broken, half]);

        assert_eq!(destinations.len(), 1);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(at(&table, &destinations, "10.0.0.3", 80), Some("half"));
    }
}
