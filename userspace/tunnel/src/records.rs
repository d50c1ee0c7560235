//! What is told of flows that have ended, in the same records as gateways tell.

use std::{net::SocketAddr, time::Duration};

use nightgate_abi::{Address, Flow, FlowKey};
use nightgate_export::Outputs;
use nightgate_gateway::clock::Clock;
use nightgate_mirror::flow::{
    EndReason, EventType, FlowCounts, FlowEnds, FlowId, FlowRecord, FlowState, ProcessSummary,
    TlsClient, Verdict, community_id, protocol_word,
};
use tracing::warn;

use crate::{copying::Copying, flows::FlowReport, process::Process};

/// Tells of flows that have ended, and of long ones that go on.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) outputs: Outputs,
    /// Who dials and hosts.
    pub(crate) identity: String,
    /// What is copied for sensors.
    pub(crate) copying: Copying,
    /// Time after which a flow that goes on is told of, again and again.
    pub(crate) interim: Option<Duration>,
}

/// A flow that is told of.
pub(crate) struct Told<'a> {
    pub(crate) what: &'a FlowReport,
    /// What its program has said of TLS.
    pub(crate) tls: Option<&'a TlsClient>,
    /// When it began and when it carried something last: nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub(crate) times: [u64; 2],
    pub(crate) reason: EndReason,
}

impl Records {
    /// Tells of a flow.
    pub(crate) fn tell(&self, told: &Told<'_>) {
        let record = Clock::read().map(|clock| self.record(told, &clock));
        let record = record.and_then(|it| Ok((serde_json::to_string(&it)?, it.timestamp)));
        match record {
            Ok((text, timestamp)) => self.outputs.submit(&timestamp, &text),
            Err(error) => warn!(%error, "a flow cannot be told of"),
        }
    }

    fn record(&self, told: &Told<'_>, clock: &Clock) -> FlowRecord {
        let Told { what, tls, times: [start, end], reason } = told;
        let ends = [what.source, what.destination];
        let protocol = what.protocol.number();
        let date = |moment| clock.exact_date(moment).unwrap_or_default();
        let age = Duration::from_nanos(end.saturating_sub(*start));
        let message = [0; 2];
        let (to_server, to_client) = match what.dialer {
            Some(_) => (what.received, what.sent),
            None => (what.sent, what.received),
        };
        let dialer = what.dialer.as_ref().unwrap_or(&self.identity);
        let [source, destination] = ends;
        FlowRecord {
            timestamp: date(clock.now()),
            event_type: EventType::Flow,
            host: self.identity.clone(),
            flow_id: flow_id(protocol, ends, *start),
            in_iface: None,
            src_ip: source.ip(),
            src_port: Some(source.port()),
            dest_ip: destination.ip(),
            dest_port: Some(destination.port()),
            proto: protocol_word(protocol),
            icmp_type: None,
            icmp_code: None,
            community_id: Some(community_id(&FlowEnds { protocol, source, destination, message })),
            src_zone: None,
            dest_zone: None,
            verdict: Verdict::Accept,
            rule: None,
            service: Some(what.service.clone()),
            identity: Some(dialer.clone()),
            circuit: None,
            process: what.process.as_ref().map(process),
            mirrored: self.copying.copies(&what.service, dialer),
            nat: None,
            tcp: None,
            tls: tls.cloned(),
            dns: None,
            drop: None,
            flow: Some(FlowCounts {
                pkts_toserver: None,
                pkts_toclient: None,
                bytes_toserver: to_server,
                bytes_toclient: to_client,
                start: date(*start),
                end: date(*end),
                age: age.as_secs(),
                duration_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                state: state(*reason),
                reason: *reason,
            }),
        }
    }
}

fn state(reason: EndReason) -> FlowState {
    match reason {
        EndReason::EndOfFlow => FlowState::Closed,
        EndReason::ActiveTimeout | EndReason::IdleTimeout | EndReason::ForcedEnd => {
            FlowState::Established
        }
    }
}

fn process(process: &Process) -> ProcessSummary {
    let process = process.clone();
    ProcessSummary {
        pid: process.pid,
        command: process.command,
        executable: process.executable,
        uid: process.user,
        gid: process.group,
        cgroup: process.cgroup,
    }
}

fn flow_id(protocol: u8, ends: [SocketAddr; 2], start: u64) -> FlowId {
    let [source, destination] = ends.map(|end| (Address::from(end.ip()), end.port()));
    let (key, _) = FlowKey::new(protocol, source, destination);
    FlowId::new(&key, &Flow { first_seen: start, ..Flow::default() })
}
