use nightgate_abi::Intercept;
use nightgate_mirror::SensorPath;
use nightgate_model::id::ServiceId;
use nightgate_ruleset::{Destination, Network};

use super::*;
use crate::{
    dns::NameTable,
    intercept::{DialPlan, Encryption, InterceptedService, ServiceTag, Sources},
};

const GATEWAY: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] } }
mirror:
  sensors: { ids: { address: 10.9.0.2, interface: mon0 } }
  sessions: [{ id: copies, services: [web], sensor: ids, vni: 42 }]
";

#[test]
fn each_destination_carries_its_service_and_the_service_its_mirror_session() {
    let destination = |address: &str, port, service| Destination {
        network: Network::host(address.parse().unwrap()),
        protocol: 6,
        ports: (port, port),
        value: Intercept::new(service, 0),
    };
    let destinations = [destination("10.0.0.7", 80, 3), destination("fd00::7", 22, 4)];
    let image = InterceptImage::compile(&destinations).unwrap();
    let services = [service("web", 3), service("ssh", 4)];
    let table = InterceptTable::new(image, services, NameTable::default());

    let kernel = kernel_table(&table, &plan());

    let find =
        |address: &str, port| kernel.find(6, address.parse::<IpAddr>().unwrap().into(), port);
    assert_eq!(find("10.0.0.7", 80), Intercept::new(3, 1 << 8 | 1));
    assert_eq!(find("fd00::7", 22), Intercept::new(4, 0));
}

fn service(name: &str, tag: u32) -> InterceptedService {
    InterceptedService {
        id: ServiceId::new(name),
        name: name.into(),
        tag: ServiceTag::new(tag.try_into().unwrap()),
        encryption: Encryption::Required,
        early_data: false,
        dial: DialPlan::default(),
        sources: Sources::default(),
    }
}

fn plan() -> Plan {
    let gateway = nightgate_config::parse(GATEWAY, "gw.yaml").unwrap().gateway.unwrap();
    let path = SensorPath { ifindex: 7, mtu: 9_000, source: "10.9.0.1".parse().ok(), cuts: false };
    let mirror = gateway.mirror.unwrap();
    let sensor = mirror.sessions[0].sensors[0].clone();
    Plan::new(&mirror, &[(sensor, path)].into(), 1_500).unwrap()
}
