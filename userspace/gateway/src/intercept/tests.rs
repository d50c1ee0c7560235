//! Tables compiled from a model.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use super::*;
use crate::dns::Found;

#[test]
fn a_dialable_name_becomes_two_destinations_for_each_port() {
    let mut intercepts = intercepts();
    let replica = replica(&[("web", intercept(&["web.example"], &[(80, 81)]))]);

    let (table, problems) = intercepts.compile(&replica);

    assert!(problems.is_empty(), "{problems:?}");
    let addresses = lookup(&table, "web.example").unwrap();
    for address in addresses.iter() {
        for port in [80, 81] {
            assert_eq!(service_name(&table, (address, port)), Some("web"));
        }
        assert_eq!(service_name(&table, (address, 82)), None);
    }
    assert_eq!(table.image().ports().len(), 4, "the ports of each address, and its echoes");
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

    assert!(table.image().ranges().is_empty() && table.services().next().is_none());
    assert_eq!(lookup(&table, "web.example"), None);
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

    assert_eq!(lookup(&before, "web.example"), lookup(&after, "web.example"));
    let tag = |table: &InterceptTable, name: &str| {
        table.services().find(|service| service.name == name).map(|service| service.tag)
    };
    assert_eq!(tag(&before, "web"), tag(&after, "web"));
    assert_ne!(tag(&before, "other"), tag(&after, "more"));
}

#[test]
fn of_two_services_for_one_destination_the_first_by_name_has_it_and_the_other_is_reported() {
    let (table, problems) = intercepts().compile(&replica(&[
        ("b", intercept(&["10.9.0.7"], &[(80, 80)])),
        ("a", intercept(&["10.9.0.7"], &[(80, 80)])),
        ("c", intercept(&["10.9.0.7"], &[(70, 90)])),
    ]));

    assert_eq!(service_name(&table, ([10, 9, 0, 7].into(), 80)), Some("a"));
    assert_eq!(service_name(&table, ([10, 9, 0, 7].into(), 81)), Some("c"));
    let [InterceptProblem::Covered { service }] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(service, "b");
}

#[test]
fn networks_ranges_and_protocols_are_intercepted() {
    let both = serde_json::json!({
        "protocols": ["udp", "tcp"], "addresses": ["10.0.0.0/8", "fd00::/64"],
        "portRanges": [{"low": 1, "high": 65535}],
    });
    let (table, problems) = intercepts().compile(&replica(&[("net", both)]));
    assert!(problems.is_empty(), "{problems:?}");
    for (protocol, destination, is_intercepted) in [
        (Protocol::Tcp, "10.255.0.1:1", true),
        (Protocol::Udp, "10.0.0.0:65535", true),
        (Protocol::Udp, "[fd00::1]:53", true),
        (Protocol::Udp, "[fd00:0:0:1::1]:53", false),
        (Protocol::Tcp, "11.0.0.1:1", false),
    ] {
        let found = table.service_at(protocol, destination.parse().unwrap());
        assert_eq!(found.is_some(), is_intercepted, "{destination}");
    }
}

#[test]
fn names_below_a_domain_get_addresses_that_are_intercepted_already() {
    let (table, problems) = intercepts().compile(&replica(&[
        ("all", intercept(&["*.corp"], &[(1, 1_024)])),
        ("db", intercept(&["db.corp"], &[(5432, 5432)])),
    ]));
    assert!(problems.is_empty(), "{problems:?}");
    let addresses = lookup(&table, "a.b.corp").unwrap();
    assert_ne!(Some(addresses), lookup(&table, "c.corp"));
    for address in addresses.iter() {
        assert_eq!(service_name(&table, (address, 80)), Some("all"));
        assert_eq!(service_name(&table, (address, 5432)), None);
        assert_eq!(table.names().name_of(address).unwrap().as_str(), "a.b.corp");
    }
    let db = lookup(&table, "db.corp").unwrap();
    assert_eq!(service_name(&table, (db.v4.into(), 5432)), Some("db"));
    assert_eq!(service_name(&table, (db.v4.into(), 80)), None, "a name of its own");
    assert_eq!(lookup(&table, "corp"), None);
    assert_eq!(lookup(&table, "other"), None);
}

#[test]
fn names_are_known_to_the_clients_of_their_services_alone() {
    let mut document = intercept(&["db.corp", "*.lab"], &[(1, 1)]);
    document["allowedSourceAddresses"] = serde_json::json!(["10.1.0.0/16"]);
    let (table, _) = intercepts().compile(&replica(&[("db", document.clone())]));
    let ask = |name: &str, client: [u8; 4]| lookup_from(&table, name, client).is_some();
    for name in ["db.corp", "x.lab"] {
        assert!(ask(name, [10, 1, 2, 3]) && !ask(name, [10, 2, 0, 1]), "{name}");
    }
    let address = lookup_from(&table, "x.lab", [10, 1, 0, 1]).unwrap().v4.into();
    assert!(table.names().reverse(address, [10, 1, 0, 1].into()).is_some());
    assert!(table.names().reverse(address, [10, 2, 0, 1].into()).is_none());

    document["allowedSourceAddresses"] = serde_json::json!(["the lan"]);
    let (table, problems) = intercepts().compile(&replica(&[("db", document)]));
    assert!(table.services().next().is_none(), "nobody's");
    assert!(matches!(problems.as_slice(), [InterceptProblem::Source { .. }]), "{problems:?}");
}

#[test]
fn what_cannot_be_intercepted_is_reported_and_the_rest_works() {
    let (table, problems) = intercepts().compile(&replica(&[
        ("broken", serde_json::json!({"addresses": 7})),
        ("web", intercept(&["*example", "web.example"], &[(80, 80)])),
    ]));

    assert_eq!(table.image().ports().len(), 4);
    assert_eq!(problems.len(), 2, "{problems:?}");
    let addresses = lookup(&table, "web.example").unwrap();
    assert_eq!(service_name(&table, (addresses.v4.into(), 80)), Some("web"));
}

#[test]
fn an_inverted_port_range_intercepts_nothing() {
    let (table, _) =
        intercepts().compile(&replica(&[("odd", intercept(&["10.0.0.1"], &[(90, 80)]))]));

    assert!((70..=100).all(|port| service_name(&table, ([10, 0, 0, 1].into(), port)).is_none()));
}

fn lookup(table: &InterceptTable, name: &str) -> Option<crate::names::NameAddresses> {
    lookup_from(table, name, [10, 1, 2, 3])
}

fn lookup_from(
    table: &InterceptTable,
    name: &str,
    client: [u8; 4],
) -> Option<crate::names::NameAddresses> {
    match table.names().lookup(name, client.into(), Instant::now()) {
        Found::Addresses(addresses) => Some(addresses),
        Found::Nothing | Found::Full => None,
    }
}

fn service_name(table: &InterceptTable, destination: (IpAddr, u16)) -> Option<&str> {
    let found = table.service_at(Protocol::Tcp, SocketAddr::from(destination));
    found.map(|service| service.name.as_str())
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
            terminator_strategy: Default::default(),
            terminators: [].into(),
            config: [(InterceptV1::TYPE.to_owned(), intercept.clone())].into(),
            configs: Default::default(),
        };
        std::sync::Arc::make_mut(&mut replica.services).insert(id, service);
    }
    replica
}
