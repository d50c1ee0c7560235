//! The flow tables.
#![expect(unsafe_code, reason = "a batch of entries is read as bytes")]

use std::{net::SocketAddr, os::fd::AsFd as _};

use aya::maps::{Map, MapData};
use nightgate_abi::{Address, Counter, Flow, FlowKey, flow::Phase, maps};
use nightgate_ruleset::{RuleId, ZoneName};

use crate::{
    bank::Committed,
    batch,
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    map::{self, failed},
    nat,
};

/// The tables, in the order they are read in: a flow moves from the first to the second, and is then found in one of
/// them at least.
const TABLES: [&str; 2] = [maps::OPENING, maps::FLOWS];

/// The flow tables, to be read beside the [`Datapath`] and by another thread.
#[derive(Debug)]
pub struct FlowTables([MapData; 2]);

impl FlowTables {
    /// Calls a function for each flow in the tables. Flows that come and go meanwhile may be missing, those that become
    /// established may appear twice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn each(&self, mut function: impl FnMut(&FlowKey, &Flow)) -> Result<(), DatapathError> {
        TABLES.iter().zip(&self.0).try_for_each(|(name, table)| each(table, name, &mut function))
    }
}

/// Calls a function for each flow in a table.
fn each(
    table: &MapData,
    name: &'static str,
    mut function: impl FnMut(&FlowKey, &Flow),
) -> Result<(), DatapathError> {
    let function = |key: &FlowKey, flow: &Flow| {
        if !flow.is_alias() {
            function(key, flow);
        }
    };
    // SAFETY: the tables of this object are LRU hash maps of these types; its ABI version was compared.
    unsafe { batch::each(table.fd().as_fd(), function) }.map_err(failed("read", name))
}

/// A flow that was accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowEntry {
    /// IP protocol number.
    pub protocol: u8,
    /// The end that sent the first packet.
    pub origin: FlowSide,
    /// The other end.
    pub responder: FlowSide,
    /// Interface the first packet came in by; `None` if the gateway itself sent it.
    pub interface: Option<IfIndex>,
    /// The rule that accepted it; `None` if it has not been judged by the rules in force.
    pub rule: Option<RuleId>,
    /// Tag of the intercepted service; `None` if it is not intercepted.
    pub service: Option<u32>,
    /// Mirror session; `None` if it is not mirrored.
    pub mirror_session: Option<u16>,
    /// How far it is.
    pub phase: Phase,
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`) of the first packet.
    pub first_seen: u64,
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`) of the last packet.
    pub last_seen: u64,
}

/// One end of a flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowSide {
    /// Address and port; the port is 0 if the protocol has none, and the identifier of an ICMP echo.
    pub address: SocketAddr,
    /// Its zone; `None` if the flow has not been judged by the rules in force.
    pub zone: Option<ZoneName>,
    /// What it has sent.
    pub sent: Counter,
    /// Address and port that the other end knows it by; `None` if they are its own.
    pub appears_as: Option<SocketAddr>,
}

impl Datapath {
    /// The flows in the tables, in no order. Flows that come and go or become established meanwhile may be
    /// missing or appear twice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn flows(&self) -> Result<Vec<FlowEntry>, DatapathError> {
        let mut flows = Vec::new();
        self.each_flow(|key, flow| flows.push(self.describe(key, flow)))?;
        Ok(flows)
    }

    /// Removes the flows that are meant with all that was kept for them, and tells how many they were. What comes of them next is judged by the rules
    /// like a first packet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_flows(
        &mut self,
        mut is_meant: impl FnMut(&FlowEntry) -> bool,
    ) -> Result<usize, DatapathError> {
        self.end_flows(|datapath, key, flow| is_meant(&datapath.describe(key, flow)))
    }

    /// Calls a function for each flow in the tables.
    pub(crate) fn each_flow(
        &self,
        mut function: impl FnMut(&FlowKey, &Flow),
    ) -> Result<(), DatapathError> {
        TABLES.iter().try_for_each(|name| each(self.flow_table(name)?, name, &mut function))
    }

    /// The flow tables, for another thread.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn flow_tables(&self) -> Result<FlowTables, DatapathError> {
        let open = |name: &'static str| {
            let info = self.flow_table(name)?.info().map_err(failed("look at", name))?;
            MapData::from_id(info.id()).map_err(failed("open", name))
        };
        let [opening, established] = TABLES;
        Ok(FlowTables([open(opening)?, open(established)?]))
    }

    fn flow_table(&self, name: &'static str) -> Result<&MapData, DatapathError> {
        let _types_fit = map::hash::<FlowKey, Flow>(&self.ebpf, name)?;
        let Map::LruHashMap(data) = map::map(&self.ebpf, name)? else {
            return Err(DatapathError::Missing { object: name });
        };
        Ok(data)
    }

    /// Describes a flow that was in the tables a while ago, with the names that its zones and its rule had then, if that
    /// was not long ago.
    pub fn describe_flow(&self, key: &FlowKey, flow: &Flow) -> FlowEntry {
        self.describe_by(key, flow, self.committed_in(flow.epoch))
    }

    fn describe(&self, key: &FlowKey, flow: &Flow) -> FlowEntry {
        // Numbers of zones and rules mean something only in the epoch they were written in.
        let current = self.committed.as_ref().filter(|_| flow.epoch == self.active.epoch());
        self.describe_by(key, flow, current)
    }

    fn describe_by(&self, key: &FlowKey, flow: &Flow, current: Option<&Committed>) -> FlowEntry {
        let origin = flow.originator();
        let (origin, responder) = (key.endpoint(origin), key.endpoint(origin.other()));
        let zone = |zone| current.and_then(|committed| committed.zone_name(zone)).cloned();
        let appearances = nat::appearances(flow);
        let side = |(address, port): (Address, u16), zone, index: usize| FlowSide {
            address: SocketAddr::new(address.to_ip(), port),
            zone,
            sent: Counter { packets: flow.packets[index], bytes: flow.bytes[index] },
            appears_as: appearances[index],
        };
        FlowEntry {
            protocol: key.protocol,
            origin: side(origin, zone(flow.from), 0),
            responder: side(responder, zone(flow.to), 1),
            interface: IfIndex::new(flow.origin_ifindex),
            rule: current.and_then(|committed| committed.rule(flow.rule)).cloned(),
            service: (flow.service != 0).then_some(flow.service),
            mirror_session: (flow.mirror_session != 0).then_some(flow.mirror_session.into()),
            phase: flow.phase(),
            first_seen: flow.first_seen,
            last_seen: flow.last_seen,
        }
    }
}
