//! The kernel's side of a gateway: firewall, intercepts and mirror in its programs.

use std::{collections::BTreeMap, net::SocketAddr};

use nightgate_abi::{Family, Intercept, InterceptKey, mirror::MirrorSessionId};
use nightgate_config::Gateway;
use nightgate_datapath::{Datapath, DatapathError, FlowSide, IfIndex, Pins};
use nightgate_mirror::Plan;
use nightgate_ruleset::{RuleSet, ZoneName};

use crate::{admin::Session, intercept::InterceptTable, mirror::HostMirror};

/// The kernel programs with everything this gateway puts into them. They stay when it is dropped.
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
    /// From the first attachment on, an interface carries nothing that no rule accepts. What an earlier
    /// process has left is taken over: there is no packet that neither its rules nor the new ones judge.
    ///
    /// # Errors
    /// An interface is missing, or the kernel refuses. What an earlier process had put in force stays in
    /// force then; if there was nothing, every interface is as before.
    pub fn start(gateway: &Gateway, rules: RuleSet, pins: Pins) -> Result<Self, DatapathError> {
        let is_new = !pins.exist();
        let started = Self::take_over(gateway, rules, pins.clone());
        if started.is_err() && is_new {
            pins.remove()?;
        }
        started
    }

    fn take_over(gateway: &Gateway, rules: RuleSet, pins: Pins) -> Result<Self, DatapathError> {
        let mut datapath = Datapath::open(pins)?;
        let image = rules.image();
        // Empty tables get the rules before interfaces come to use them; those in use know the interfaces,
        // which have to be at hand when their rules change.
        if datapath.is_in_force() {
            attach(&mut datapath, gateway)?;
            datapath.commit(&image)?;
        } else {
            datapath.commit(&image)?;
            attach(&mut datapath, gateway)?;
        }
        // The veth pair is made anew, and its number may name another interface then.
        datapath.set_mirror_device(None)?;
        datapath.drop_leftovers()?;
        Ok(Self { datapath, rules, mirror: Plan::default() })
    }

    /// Puts other rules in force.
    ///
    /// # Errors
    /// The kernel refuses; the rules before stay in force.
    pub fn change(&mut self, rules: &RuleSet) -> Result<(), DatapathError> {
        self.datapath.commit(&rules.image())?;
        self.rules = rules.clone();
        Ok(())
    }

    /// The zone that a TCP connection to this host comes from; `None` if it does not pass the firewall.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn zone_of(&self, session: &Session) -> Result<Option<ZoneName>, DatapathError> {
        let is_same = |side: &FlowSide, end: SocketAddr| {
            side.address == SocketAddr::new(end.ip().to_canonical(), end.port())
        };
        let flow = self.datapath.flows()?.into_iter().find(|flow| {
            flow.protocol == TCP
                && is_same(&flow.origin, session.client)
                && is_same(&flow.responder, session.server)
        });
        let Some(interface) = flow.and_then(|flow| flow.interface) else {
            return Ok(None);
        };
        let mut interfaces = self.datapath.interfaces();
        Ok(interfaces.find(|(index, ..)| *index == interface).map(|(_, _, zone)| zone.clone()))
    }

    /// Says that nobody accepts intercepted connections or takes copies any more. The rules stay in force.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&mut self) -> Result<(), DatapathError> {
        self.datapath.clear_listener(Family::V4)?;
        self.datapath.clear_listener(Family::V6)?;
        self.datapath.set_mirror_device(None)
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

fn attach(datapath: &mut Datapath, gateway: &Gateway) -> Result<(), DatapathError> {
    for (name, zone) in &gateway.zones {
        for interface in &zone.interfaces {
            datapath.attach(interface.as_str(), name)?;
        }
    }
    Ok(())
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
