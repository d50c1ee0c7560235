//! What is told of a flow. `docs/flow-records.md` and `docs/flow-record.schema.json` are made of these types.

use std::net::IpAddr;

use nightgate_abi::{Flow, FlowKey, flow::Phase};
use nightgate_packet::protocol;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Serialize;
use sha1::{Digest as _, Sha1};

use super::tls::TlsClient;

/// A flow that has ended, or goes on for long, or a packet that was refused. Fields that have no value are absent.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct FlowRecord {
    /// When the record was made, RFC 3339 in UTC.
    pub timestamp: String,
    /// What it is about.
    pub event_type: EventType,
    /// Name of the gateway, or of the tunneler's identity.
    pub host: String,
    /// Tells the flow from others, also from later ones with the same ends. Its records all have it, before and after a
    /// restart of the gateway.
    pub flow_id: FlowId,
    /// Interface that its first packet came in by; absent if the gateway itself sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_iface: Option<String>,
    /// Address of the end that sent the first packet.
    pub src_ip: IpAddr,
    /// Its port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// Address of the other end, as it is behind any translation.
    pub dest_ip: IpAddr,
    /// Its port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
    /// `TCP`, `UDP`, `ICMP`, `IPv6-ICMP`, `SCTP`, or the number of another IP protocol.
    pub proto: String,
    /// Type of the first message of ICMP and ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// Its code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// Community ID, version 1 with seed 0, by which other tools know the flow too; absent of refused ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
    /// Zone that it came from; absent if rules of long ago judged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_zone: Option<String>,
    /// Zone that it went to, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_zone: Option<String>,
    /// What the rules said.
    pub verdict: Verdict,
    /// The rule that decided, absent as zones are, and if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The service, if it was carried by the overlay or intercepted for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The identity that dialed the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The circuit that carried it; a tunneler does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
    /// The program that began it, where a tunneler tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessSummary>,
    /// Whether a mirror session copied it.
    pub mirrored: bool,
    /// How its ends appear to each other, if that is translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
    /// TCP flags that were seen, as hexadecimal masks: 01 FIN, 02 SYN, 04 RST, 08 PSH, 10 ACK, 20 URG, 40 ECE, 80 CWR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSummary>,
    /// What the client said of TLS, of connections that an overlay circuit carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsClient>,
    /// What was asked of the gateway's private DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsAsked>,
    /// How much it carried, and when; absent of refused packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowCounts>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropSummary>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventType {
    /// A flow.
    Flow,
    /// A packet that was refused, and that a rule with `log` or `log_unmatched` has logged.
    Drop,
}

/// What the rules said.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It passed.
    Accept,
    /// It was refused, with or without an answer.
    Drop,
}

/// A number below 2^53, which every reader of JSON takes exactly.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FlowId(u64);

impl FlowId {
    /// That of a flow: of its ends and the moment when it began.
    pub fn new(key: &FlowKey, flow: &Flow) -> Self {
        let mut hash = Sha1::new();
        for (address, port) in [(key.low, key.low_port), (key.high, key.high_port)] {
            for half in address.halves() {
                hash.update(half.to_be_bytes());
            }
            hash.update(port.to_be_bytes());
        }
        hash.update([key.protocol, key.icmp_type, key.icmp_code]);
        hash.update(flow.first_seen.to_be_bytes());
        let [a, b, c, d, e, f, g, ..] = <[u8; 20]>::from(hash.finalize());
        Self(u64::from_be_bytes([0, a & 0x1f, b, c, d, e, f, g]))
    }
}

/// How the ends of a flow appear to each other.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct Nat {
    /// Address that the destination knows the source by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<IpAddr>,
    /// Port that the destination knows the source by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// Address that the source knows the destination by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_ip: Option<IpAddr>,
    /// Port that the source knows the destination by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
}

/// The program that began it.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct ProcessSummary {
    /// Process id, in the tunneler's namespace.
    pub pid: u32,
    /// Name of its thread, up to 15 bytes.
    pub command: String,
    /// Path of its executable; absent if it had ended before it could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Path of its cgroup v2 from the root of the hierarchy; absent as `executable` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// What was asked of the gateway's private DNS.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct DnsAsked {
    /// The first four questions.
    pub queries: Vec<DnsQuery>,
}

/// A question.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct DnsQuery {
    /// The name, without the dot at its end.
    pub rrname: String,
    /// Type of the records asked for, such as `AAAA`.
    pub rrtype: String,
}

/// TCP flags that were seen.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct TcpSummary {
    /// Flags of either end.
    pub tcp_flags: String,
    /// Flags of the source.
    pub tcp_flags_ts: String,
    /// Flags of the destination.
    pub tcp_flags_tc: String,
}

/// A packet that was refused.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct DropSummary {
    /// Why, in the word of `nightgate fw drops`.
    pub reason: String,
    /// Side of the interface that refused it: `ingress` or `egress`.
    pub hook: String,
    /// Its bytes, link layer included.
    pub len: u32,
    /// Packets that the same rule has refused since the record before, and that nothing tells of: 10 are told of in a
    /// second, 20 at once.
    pub suppressed: u64,
}

impl TcpSummary {
    /// That of a flow; `None` for other protocols.
    pub fn new(key: &FlowKey, flow: &Flow) -> Option<Self> {
        if key.protocol != protocol::TCP {
            return None;
        }
        let [source, destination] = flow.senders.map(|sender| sender.seen);
        Some(Self::of(source, destination))
    }

    /// That of what both ends have sent.
    pub fn of(source: u8, destination: u8) -> Self {
        let hex = |flags: u8| format!("{flags:02x}");
        Self {
            tcp_flags: hex(source | destination),
            tcp_flags_ts: hex(source),
            tcp_flags_tc: hex(destination),
        }
    }
}

/// How much a flow carried, and when. All counts are since its start.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct FlowCounts {
    /// Packets from its source, as the kernel hands them on: large segments count once. A tunneler sees none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkts_toserver: Option<u64>,
    /// Packets to its source, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkts_toclient: Option<u64>,
    /// Bytes from its source, link layer included; where a tunneler tells, what the program has sent.
    pub bytes_toserver: u64,
    /// Bytes to its source, likewise.
    pub bytes_toclient: u64,
    /// When its first packet came, RFC 3339 in UTC.
    pub start: String,
    /// When its last packet came, RFC 3339 in UTC.
    pub end: String,
    /// Time between the two, in whole seconds.
    pub age: u64,
    /// Time between the two, in milliseconds.
    pub duration_ms: u64,
    /// How far it was.
    pub state: FlowState,
    /// Why it is told of; the words are those of IPFIX (flowEndReason, RFC 5102).
    pub reason: EndReason,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// Its source has not answered an answer yet.
    New,
    /// Both ends hear each other.
    Established,
    /// A TCP connection that both ends have closed, or one has reset.
    Closed,
}

/// Why a flow is told of.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// No packet came for as long as `timeouts` says.
    IdleTimeout,
    /// It goes on, and is told of at intervals.
    ActiveTimeout,
    /// A TCP connection was closed or reset.
    EndOfFlow,
    /// It was ended before its time: killed, refused by newer rules, replaced by another with its ends, or pushed out of
    /// a full table. Its counts may lack the last second.
    ForcedEnd,
}

impl From<Phase> for FlowState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Opening => Self::New,
            Phase::Established | Phase::Closing => Self::Established,
            Phase::Closed => Self::Closed,
        }
    }
}

/// The name of an IP protocol (IANA), as sensors write it.
pub fn protocol_word(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".into(),
        protocol::UDP => "UDP".into(),
        protocol::ICMP => "ICMP".into(),
        protocol::ICMPV6 => "IPv6-ICMP".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

/// A record as it is delivered.
#[derive(JsonSchema)]
#[schemars(rename = "FlowRecord")]
#[expect(dead_code, reason = "its schema alone is used: outputs add the last field themselves")]
struct Delivered {
    #[schemars(flatten)]
    record: FlowRecord,
    /// Records that this output has lost since the one before: its queue was full, or it could not be written.
    lost: u64,
}

/// The JSON schema of a record as it is delivered (2020-12).
pub fn schema() -> Schema {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Delivered>()
}

#[cfg(test)]
mod tests {
    use nightgate_abi::{Address, Sender};

    use super::*;

    #[test]
    fn flags_are_those_that_both_ends_have_sent() {
        let summary = |protocol, seen: [u8; 2]| {
            let end = |port| (Address::from_v4([10, 0, 0, 1]), port);
            let (key, _) = FlowKey::new(protocol, end(1), end(2));
            let senders = seen.map(|seen| Sender { seen, ..Sender::default() });
            let summary = TcpSummary::new(&key, &Flow { senders, ..Flow::default() })?;
            Some([summary.tcp_flags, summary.tcp_flags_ts, summary.tcp_flags_tc].join(" "))
        };
        assert_eq!(summary(6, [0x1b, 0x52]).as_deref(), Some("5b 1b 52"));
        assert_eq!(summary(6, [0x02, 0]).as_deref(), Some("02 02 00"), "unanswered");
        assert_eq!(summary(17, [0x02, 0x12]), None);
    }
}
