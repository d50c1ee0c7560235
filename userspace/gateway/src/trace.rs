//! Live traces: which packets are wanted, and how they are told.

use std::time::Duration;

use nightgate_abi::{
    Address, Hook, Rate, Reason,
    event::{Network, Trace, verdict},
};
use nightgate_config::Prefix;
use nightgate_datapath::{IfIndex, PacketEvent};
use serde::Serialize;

use crate::{
    admin::TraceRequest,
    clock::Clock,
    filter::{self, FilterError, Operator, PacketTerm, Side, Term},
};

/// Records that each CPU writes in a second at most.
const RATE: u32 = 1_000;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A packet, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct PacketReport {
    /// RFC 3339, to the microsecond.
    time: Option<String>,
    verdict: &'static str,
    reason: &'static str,
    rule: Option<String>,
    interface: String,
    hook: &'static str,
    zones: [Option<String>; 2],
    protocol: Option<String>,
    source: Option<String>,
    destination: Option<String>,
    tcp_flags: Option<String>,
    length: u32,
    ether_type: String,
    source_mac: String,
    destination_mac: String,
}

/// What the kernel programs are told to trace, until a time since boot. `interface` finds an interface by its name.
///
/// # Errors
/// A condition is not one that they can check.
pub(crate) fn compile(
    request: &TraceRequest,
    deadline: Duration,
    interface: impl Fn(&str) -> Option<IfIndex>,
) -> Result<Trace, FilterError> {
    let mut trace = Trace {
        deadline: u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX),
        rate: Rate::new(RATE, SECOND, RATE),
        sample: u32::MAX / request.sample.max(1),
        ..Trace::default()
    };
    for term in filter::parse(&request.filter)? {
        add(&mut trace, &term, &interface)?;
        if term.operator != Operator::Is {
            return Err(term.expected("=: the kernel programs check no other condition"));
        }
    }
    Ok(trace)
}

fn add(
    trace: &mut Trace,
    term: &Term,
    interface: impl Fn(&str) -> Option<IfIndex>,
) -> Result<(), FilterError> {
    if let Some(packet) = term.packet()? {
        match packet {
            PacketTerm::Protocol(protocol) => trace.protocol = u16::from(protocol) + 1,
            PacketTerm::Address(side, prefix) => {
                let slot = match side {
                    Side::Either => &mut trace.host,
                    Side::Source => &mut trace.source,
                    Side::Destination => &mut trace.destination,
                };
                *slot = network(prefix);
            }
            PacketTerm::Port(Side::Either, port) => trace.port = port,
            PacketTerm::Port(Side::Source, port) => trace.source_port = port,
            PacketTerm::Port(Side::Destination, port) => trace.destination_port = port,
        }
        return Ok(());
    }
    match term.key.as_str() {
        "interface" => {
            let index = interface(&term.value)
                .ok_or_else(|| term.expected("an interface of one of the gateway's zones"))?;
            trace.ifindex = index.get();
        }
        "hook" => {
            let hook = [Hook::Ingress, Hook::Egress].into_iter().find(|h| h.as_str() == term.value);
            let hook = hook.ok_or_else(|| term.expected("ingress or egress"))?;
            trace.hook = hook.number() + 1;
        }
        "reason" => {
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == term.value);
            let reason = reason.ok_or_else(|| term.expected("a reason of `fw counters --json`"))?;
            trace.reason = u16::try_from(reason.index() + 1).unwrap_or(u16::MAX);
        }
        "verdict" => {
            trace.verdict = match term.value.as_str() {
                "pass" => verdict::PASS,
                "drop" => verdict::DROP,
                _ => return Err(term.expected("pass or drop")),
            }
        }
        _ => {
            return Err(term.expected(
                "protocol, host, source, destination, port, source-port, destination-port, interface, hook, \
                 reason or verdict",
            ));
        }
    }
    Ok(())
}

fn network(prefix: Prefix) -> Network {
    /// Bits before the IPv4 address in the mapped form.
    const V4_OFFSET: u32 = 96;
    let offset = if prefix.is_ipv4() { V4_OFFSET } else { 0 };
    let length = offset + u32::from(prefix.length());
    let mask = u128::MAX.checked_shl(u128::BITS - length).unwrap_or(0);
    Network {
        address: Address::from(prefix.address()).halves(),
        mask: Address::from_v6(mask.to_be_bytes()).halves(),
    }
}

impl PacketReport {
    /// Tells of a packet.
    pub fn new(event: &PacketEvent, clock: &Clock) -> Self {
        let zone =
            |zone: &Option<nightgate_ruleset::ZoneName>| zone.as_ref().map(ToString::to_string);
        Self {
            time: clock.exact_date(event.at),
            verdict: verdict_of(event.reason),
            reason: event.reason.as_str(),
            rule: event.rule.as_ref().map(ToString::to_string),
            interface: event.interface.clone(),
            hook: event.hook.as_str(),
            zones: [zone(&event.from), zone(&event.to)],
            protocol: event.ip.map(|ip| protocol_name(ip.protocol)),
            source: event.ip.map(|ip| ip.source.to_string()),
            destination: event.ip.map(|ip| ip.destination.to_string()),
            tcp_flags: event.ip.filter(|ip| ip.protocol == TCP).map(|ip| flags(ip.tcp_flags)),
            length: event.length,
            ether_type: format!("0x{:04x}", event.ether_type),
            source_mac: mac(event.source_mac),
            destination_mac: mac(event.destination_mac),
        }
    }

    /// Writes it to the log, for a rule with `log`.
    pub(crate) fn log(&self, suppressed: u64) {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        tracing::info!(
            target: "nightgate::packets",
            verdict = self.verdict,
            reason = self.reason,
            rule = of(&self.rule),
            interface = self.interface,
            hook = self.hook,
            from = of(&self.zones[0]),
            to = of(&self.zones[1]),
            protocol = of(&self.protocol),
            source = of(&self.source),
            destination = of(&self.destination),
            tcp_flags = of(&self.tcp_flags),
            length = self.length,
            source_mac = self.source_mac,
            destination_mac = self.destination_mac,
            suppressed,
            "packet"
        );
    }
}

/// IP protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

/// The word for what a reason says about its packet.
fn verdict_of(reason: Reason) -> &'static str {
    match reason.kind() {
        nightgate_abi::reason::Kind::Pass | nightgate_abi::reason::Kind::Event => "pass",
        nightgate_abi::reason::Kind::Drop => "drop",
    }
}

/// The name of an IP protocol, or its number.
pub(crate) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        other => other.to_string(),
    }
}

/// TCP flags (RFC 9293 section 3.1) by their first letters, with those of RFC 3168 as E and C.
fn flags(flags: u8) -> String {
    "FSRPAUEC"
        .chars()
        .enumerate()
        .filter(|(bit, _)| flags & 1 << bit != 0)
        .map(|(_, c)| c)
        .collect()
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(filter: &[&str]) -> TraceRequest {
        TraceRequest {
            filter: filter.iter().map(|text| (*text).to_owned()).collect(),
            sample: 4,
            count: None,
            seconds: 1,
        }
    }

    fn trace(filter: &[&str]) -> Result<Trace, FilterError> {
        let lan = |name: &str| IfIndex::new(7).filter(|_| name == "lan0");
        compile(&request(filter), Duration::from_secs(9), lan)
    }

    #[test]
    fn conditions_reach_the_kernel() {
        let trace = trace(&[
            "protocol=tcp port=80 host=10.1.0.0/16",
            "interface=lan0 hook=egress reason=no-rule verdict=drop",
        ])
        .unwrap();
        assert_eq!((trace.protocol, trace.port, trace.ifindex, trace.hook), (7, 80, 7, 2));
        assert_eq!(u32::from(trace.reason), Reason::NoRule.index() + 1);
        assert_eq!((trace.verdict, trace.deadline), (verdict::DROP, 9 * SECOND));
        assert_eq!(trace.sample, u32::MAX / 4);
        let address = |text: &str| Address::from(text.parse::<std::net::IpAddr>().unwrap());
        assert!(trace.host.contains(address("10.1.255.1")));
        assert!(!trace.host.contains(address("10.2.0.1")) && trace.source.is_any());
    }

    #[test]
    fn what_the_kernel_cannot_check_is_refused() {
        for filter in
            ["age>1h", "port!=80", "interface=wan9", "reason=why", "verdict=maybe", "lan", "hook=x"]
        {
            let error = trace(&[filter]).unwrap_err();
            assert_eq!(error.term, filter);
        }
    }

    #[test]
    fn flags_are_letters() {
        assert_eq!(flags(0x12), "SA");
        assert_eq!(flags(0xff), "FSRPAUEC");
        assert_eq!(mac([0, 1, 2, 0xab, 4, 5]), "00:01:02:ab:04:05");
    }
}
