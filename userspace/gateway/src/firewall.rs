//! The kernel's side of a gateway: firewall, intercepts and mirror in its programs.

use std::{collections::BTreeMap, net::SocketAddr};

use nightgate_abi::{Intercept, InterceptKey, mirror::MirrorSessionId};
use nightgate_config::Gateway;
use nightgate_datapath::{Datapath, DatapathError, IfIndex};
use nightgate_mirror::Plan;
use nightgate_ruleset::RuleSet;

use crate::{intercept::InterceptTable, mirror::HostMirror};

/// The kernel programs with everything this gateway puts into them. Dropping it detaches them.
#[derive(Debug)]
pub struct Firewall {
    pub(crate) datapath: Datapath,
    pub(crate) rules: RuleSet,
    pub(crate) mirror: Plan,
}

/// IP protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

impl Firewall {
    /// Loads the programs, attaches them to the interfaces of every zone and puts the rules in force.
    /// From the first attachment on, an interface carries nothing that no rule accepts.
    ///
    /// # Errors
    /// An interface is missing, or the kernel refuses; every interface is as before then.
    pub fn start(gateway: &Gateway, rules: RuleSet) -> Result<Self, DatapathError> {
        let mut datapath = Datapath::load()?;
        for (name, zone) in &gateway.zones {
            for interface in &zone.interfaces {
                datapath.attach(interface.as_str(), name)?;
            }
        }
        datapath.commit(&rules.image())?;
        Ok(Self { datapath, rules, mirror: Plan::default() })
    }

    /// Says where intercepted connections of the address's family are accepted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_listener(&mut self, address: SocketAddr) -> Result<(), DatapathError> {
        self.datapath.set_listener(address)
    }

    /// Intercepts exactly the destinations of `table`.
    ///
    /// # Errors
    /// The kernel refuses; part of the change may have been made.
    pub fn intercept(&mut self, table: &InterceptTable) -> Result<(), DatapathError> {
        self.datapath.set_intercepts(&kernel_table(table, &self.mirror))
    }

    /// Sends copies through the mirror's veth pair to the sessions' sensors. Services become part of a
    /// session with the next [`Firewall::intercept`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror(&mut self, mirror: HostMirror) -> Result<(), DatapathError> {
        for session in mirror.plan.sessions() {
            self.datapath.set_mirror_session(session.id, session.value)?;
        }
        self.datapath.attach_mirror(&mirror.pair.peer.name)?;
        let device = IfIndex::new(mirror.pair.device.index.value());
        self.datapath.set_mirror_device(device)?;
        self.mirror = mirror.plan;
        Ok(())
    }
}

fn kernel_table(table: &InterceptTable, mirror: &Plan) -> BTreeMap<InterceptKey, Intercept> {
    table
        .entries()
        .map(|(destination, service)| {
            let session = mirror.session_of(&service.name).map_or(0, MirrorSessionId::number);
            let key = InterceptKey::new(TCP, destination.ip().into(), destination.port());
            (key, Intercept::new(service.tag.number(), session))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use nightgate_mirror::SensorPath;
    use nightgate_model::id::ServiceId;

    use super::*;
    use crate::intercept::{Encryption, InterceptedService, ServiceTag};

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
        let mut table = InterceptTable::default();
        let (v4, v6) = ("10.0.0.7:80".parse().unwrap(), "[fd00::7]:22".parse().unwrap());
        table.add(service("web", 3), [v4]);
        table.add(service("ssh", 4), [v6]);

        let kernel = kernel_table(&table, &plan());

        let entry = |destination: SocketAddr| {
            let key = InterceptKey::new(6, destination.ip().into(), destination.port());
            kernel.get(&key).copied()
        };
        assert_eq!(kernel.len(), 2);
        assert_eq!(entry(v4), Some(Intercept::new(3, 1)));
        assert_eq!(entry(v6), Some(Intercept::new(4, 0)));
    }

    fn service(name: &str, tag: u32) -> InterceptedService {
        InterceptedService {
            id: ServiceId::new(name),
            name: name.into(),
            tag: ServiceTag::new(tag.try_into().unwrap()),
            encryption: Encryption::Required,
        }
    }

    fn plan() -> Plan {
        let gateway = nightgate_config::parse(GATEWAY, "gw.yaml").unwrap().gateway.unwrap();
        let path = SensorPath { ifindex: 7, mtu: 9_000, source: "10.9.0.1".parse().unwrap() };
        let mirror = gateway.mirror.unwrap();
        let sensor = mirror.sessions[0].sensor.clone();
        Plan::new(&mirror, &[(sensor, path)].into(), 1_500).unwrap()
    }
}
