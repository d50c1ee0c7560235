//! What this gateway intercepts: the services its identity may dial, as exact destinations.

mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

use nightgate_abi::limits;
use nightgate_model::{
    configs::{ConfigShapeError, InterceptV1, Protocol},
    entity::{Permission, Service},
    id::{IdentityId, ServiceId},
    replica::Replica,
};

use crate::{
    dns::NameTable,
    names::{HostName, HostNameError, Names, SyntheticRanges},
};

pub use table::{Encryption, InterceptTable, InterceptedService, ServiceTag};

/// Compiles intercept tables; remembers what must not change from one to the next.
#[derive(Clone, Debug)]
pub struct Intercepts {
    identity: IdentityId,
    names: Names,
    tags: BTreeMap<ServiceId, ServiceTag>,
    last_tag: u32,
}

/// Why a service, or a part of it, is not intercepted.
#[derive(Debug, thiserror::Error)]
pub enum InterceptProblem {
    /// Its `intercept.v1` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigShapeError),
    /// It has an address that is neither an IP address nor a host name.
    #[error("service {service}: intercept.v1 addresses: {source}")]
    HostName {
        /// The service's name.
        service: String,
        /// The address.
        source: HostNameError,
    },
    /// It has UDP among its protocols.
    #[error("service {service}: intercept.v1 protocols: udp is not intercepted, expected tcp")]
    Udp {
        /// The service's name.
        service: String,
    },
    /// There is no synthetic address left for a name.
    #[error(
        "host name {name}: no synthetic address is left; expected a larger dns.range_v4 or range_v6"
    )]
    NoAddress {
        /// The name.
        name: HostName,
    },
    /// It has more destinations than the kernel's table has room for.
    #[error("service {service}: {needed} destinations, expected at most {left}: the table is full")]
    NoRoom {
        /// The service's name.
        service: String,
        /// Addresses times ports.
        needed: usize,
        /// Free entries of the table.
        left: usize,
    },
    /// Another service has the destination already.
    #[error("service {service}: {destination} is intercepted for service {other} already")]
    Taken {
        /// The service's name.
        service: String,
        /// The first destination that is taken.
        destination: SocketAddr,
        /// The id of the service that has it.
        other: ServiceId,
    },
}

impl Intercepts {
    /// Starts without any name or service.
    pub fn new(identity: IdentityId, ranges: SyntheticRanges) -> Self {
        Self { identity, names: Names::new(ranges), tags: BTreeMap::new(), last_tag: 0 }
    }

    /// Compiles what `replica` allows this gateway to dial, and lists what was left out.
    pub fn compile(&mut self, replica: &Replica) -> (InterceptTable, Vec<InterceptProblem>) {
        let mut problems = Vec::new();
        let services = self.dialable(replica, &mut problems);
        let wanted = services
            .iter()
            .flat_map(|(service, intercept)| host_names(service, intercept, &mut problems))
            .collect::<BTreeSet<_>>();
        for name in self.names.assign(&wanted) {
            problems.push(InterceptProblem::NoAddress { name });
        }
        self.tags.retain(|id, _| services.iter().any(|(service, _)| service.id == *id));

        let mut table = InterceptTable::with_names(self.name_table(wanted));
        for (service, intercept) in &services {
            if let Err(problem) = self.add(service, intercept, &mut table) {
                problems.push(problem);
            }
        }
        (table, problems)
    }

    /// Dialable services with their intercepts, in the order of their names: the first one to name a
    /// destination has it.
    fn dialable<'a>(
        &self,
        replica: &'a Replica,
        problems: &mut Vec<InterceptProblem>,
    ) -> Vec<(&'a Service, InterceptV1)> {
        let mut services = Vec::new();
        let ids = replica.authorizations.services(&self.identity, Permission::Dial);
        for service in ids.filter_map(|id| replica.services.get(id)) {
            match service.intercept() {
                Ok(Some(intercept)) => services.push((service, intercept)),
                Ok(None) => {}
                Err(error) => problems.push(error.into()),
            }
        }
        services
            .sort_by(|(one, _), (other, _)| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        services.retain(|(service, intercept)| {
            if intercept.protocols.contains(&Protocol::Udp) {
                problems.push(InterceptProblem::Udp { service: service.name.clone() });
            }
            intercept.protocols.contains(&Protocol::Tcp)
        });
        services
    }

    fn name_table(&self, wanted: BTreeSet<HostName>) -> NameTable {
        wanted
            .into_iter()
            .filter_map(|name| self.names.addresses(&name).map(|addresses| (name, addresses)))
            .collect()
    }

    /// Adds all of a service or nothing of it: half a service would work by chance.
    fn add(
        &mut self,
        service: &Service,
        intercept: &InterceptV1,
        table: &mut InterceptTable,
    ) -> Result<(), InterceptProblem> {
        let addresses = self.addresses(intercept);
        let ports = ports(intercept);
        let needed = addresses.len().saturating_mul(ports.len());
        let left = limits::INTERCEPTS.saturating_sub(table.len());
        let name = service.name.clone();
        if needed > left {
            return Err(InterceptProblem::NoRoom { service: name, needed, left });
        }
        let intercepted = InterceptedService {
            id: service.id.clone(),
            name: name.clone(),
            tag: self.tag(&service.id),
            encryption: Encryption::of(service),
        };
        let destinations = addresses
            .iter()
            .flat_map(|address| ports.iter().map(|port| SocketAddr::new(*address, *port)));
        match table.add(intercepted, destinations) {
            Some((destination, other)) => {
                Err(InterceptProblem::Taken { service: name, destination, other })
            }
            None => Ok(()),
        }
    }

    fn addresses(&self, intercept: &InterceptV1) -> BTreeSet<IpAddr> {
        let named = intercept
            .host_names()
            .filter_map(|name| HostName::try_from(name.as_str()).ok())
            .filter_map(|name| self.names.addresses(&name))
            .flat_map(|addresses| [IpAddr::V4(addresses.v4), IpAddr::V6(addresses.v6)]);
        intercept.ip_addresses().chain(named).collect()
    }

    fn tag(&mut self, id: &ServiceId) -> ServiceTag {
        let last_tag = &mut self.last_tag;
        *self.tags.entry(id.clone()).or_insert_with(|| {
            *last_tag = last_tag.saturating_add(1);
            ServiceTag::new(NonZeroU32::new(*last_tag).unwrap_or(NonZeroU32::MIN))
        })
    }
}

fn host_names(
    service: &Service,
    intercept: &InterceptV1,
    problems: &mut Vec<InterceptProblem>,
) -> Vec<HostName> {
    let mut names = Vec::new();
    for name in intercept.host_names() {
        match HostName::try_from(name.as_str()) {
            Ok(name) => names.push(name),
            Err(source) => {
                problems.push(InterceptProblem::HostName { service: service.name.clone(), source })
            }
        }
    }
    names
}

fn ports(intercept: &InterceptV1) -> BTreeSet<u16> {
    intercept.port_ranges.iter().flat_map(|range| range.low.max(1)..=range.high).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_dialable_name_becomes_two_destinations_for_each_port() {
        let mut intercepts = intercepts();
        let replica = replica(&[("web", intercept(&["web.example"], &[(80, 81)]))]);

        let (table, problems) = intercepts.compile(&replica);

        assert!(problems.is_empty(), "{problems:?}");
        let addresses = table.names().lookup("web.example").unwrap();
        for address in addresses.iter() {
            for port in [80, 81] {
                assert_eq!(service_name(&table, (address, port)), Some("web"));
            }
            assert_eq!(service_name(&table, (address, 82)), None);
        }
        assert_eq!(table.entries().count(), 4);
    }

    #[test]
    fn addresses_are_intercepted_as_they_are_in_both_families() {
        let (table, _) = intercepts()
            .compile(&replica(&[("db", intercept(&["10.9.0.7", "fd00::7"], &[(5432, 5432)]))]));

        assert_eq!(service_name(&table, ([10, 9, 0, 7].into(), 5432)), Some("db"));
        assert_eq!(service_name(&table, ("fd00::7".parse().unwrap(), 5432)), Some("db"));
        assert_eq!(table.names().iter().count(), 0);
    }

    #[test]
    fn what_the_identity_may_not_dial_is_neither_intercepted_nor_named() {
        let mut replica = replica(&[("web", intercept(&["web.example"], &[(80, 80)]))]);
        replica.authorizations = Default::default();
        replica.authorizations.grant(identity(), Permission::Bind, ServiceId::new("id-web"));
        replica.authorizations.grant(
            IdentityId::new("someone"),
            Permission::Dial,
            ServiceId::new("id-web"),
        );

        let (table, problems) = intercepts().compile(&replica);

        assert_eq!(table, InterceptTable::default());
        assert!(problems.is_empty());
    }

    #[test]
    fn a_service_keeps_addresses_and_tag_while_others_change() {
        let mut intercepts = intercepts();
        let web = ("web", intercept(&["web.example"], &[(80, 80)]));
        let other = ("other", intercept(&["other.example"], &[(80, 80)]));
        let (before, _) = intercepts.compile(&replica(&[other, web.clone()]));

        let more = ("more", intercept(&["more.example"], &[(80, 80)]));
        let (after, _) = intercepts.compile(&replica(&[more, web]));

        assert_eq!(before.names().lookup("web.example"), after.names().lookup("web.example"));
        let tag = |table: &InterceptTable, name: &str| {
            table
                .entries()
                .find(|(_, service)| service.name == name)
                .map(|(_, service)| service.tag)
        };
        assert_eq!(tag(&before, "web"), tag(&after, "web"));
        assert_ne!(tag(&before, "other"), tag(&after, "more"));
    }

    #[test]
    fn two_services_for_one_destination_are_reported_and_the_first_by_name_has_it() {
        let (table, problems) = intercepts().compile(&replica(&[
            ("b", intercept(&["10.9.0.7"], &[(80, 80)])),
            ("a", intercept(&["10.9.0.7"], &[(80, 90)])),
        ]));

        assert_eq!(service_name(&table, ([10, 9, 0, 7].into(), 80)), Some("a"));
        let [InterceptProblem::Taken { service, .. }] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert_eq!(service, "b");
    }

    #[test]
    fn what_cannot_be_intercepted_is_reported_and_the_rest_works() {
        let udp = serde_json::json!({
            "protocols": ["udp"], "addresses": ["10.0.0.1"], "portRanges": [{"low": 1, "high": 1}],
        });
        let (table, problems) = intercepts().compile(&replica(&[
            ("broken", serde_json::json!({"addresses": 7})),
            ("full", intercept(&["10.0.0.2", "10.0.0.3"], &[(1, 65535)])),
            ("udp", udp),
            ("web", intercept(&["*.example", "web.example"], &[(80, 80)])),
        ]));

        assert_eq!(table.entries().count(), 2);
        assert_eq!(problems.len(), 4, "{problems:?}");
        let addresses = table.names().lookup("web.example").unwrap();
        assert_eq!(service_name(&table, (addresses.v4.into(), 80)), Some("web"));
    }

    #[test]
    fn an_inverted_port_range_intercepts_nothing() {
        let (table, _) =
            intercepts().compile(&replica(&[("odd", intercept(&["10.0.0.1"], &[(90, 80)]))]));

        assert_eq!(table.entries().count(), 0);
    }

    fn service_name(table: &InterceptTable, destination: (IpAddr, u16)) -> Option<&str> {
        table.service_at(SocketAddr::from(destination)).map(|service| service.name.as_str())
    }

    fn intercepts() -> Intercepts {
        let ranges = SyntheticRanges {
            v4: (Ipv4Addr::new(100, 64, 0, 0), 10),
            v6: (Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0), 64),
        };
        Intercepts::new(identity(), ranges)
    }

    fn identity() -> IdentityId {
        IdentityId::new("gateway")
    }

    fn intercept(addresses: &[&str], ports: &[(u16, u16)]) -> serde_json::Value {
        let ports = ports.iter().map(|(low, high)| serde_json::json!({"low": low, "high": high}));
        serde_json::json!({
            "protocols": ["tcp"],
            "addresses": addresses,
            "portRanges": ports.collect::<Vec<_>>(),
        })
    }

    fn replica(services: &[(&str, serde_json::Value)]) -> Replica {
        let mut replica = Replica::default();
        for (name, intercept) in services {
            let id = ServiceId::new(format!("id-{name}"));
            replica.authorizations.grant(identity(), Permission::Dial, id.clone());
            let service = Service {
                id: id.clone(),
                name: (*name).into(),
                role_attributes: BTreeSet::new(),
                encryption_required: true,
                config: [(InterceptV1::TYPE.to_owned(), intercept.clone())].into(),
                configs: Default::default(),
            };
            replica.services.insert(id, service);
        }
        replica
    }
}
