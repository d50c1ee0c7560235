//! How flows are kept: for how long, how many, and whether in their middle.

use std::time::Duration;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::{Reader, Section},
};

/// How flows are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tracking {
    /// How long without a packet.
    pub timeouts: Timeouts,
    /// How many.
    pub flows: FlowTables,
    /// Whether rules judge TCP connections in their middle.
    pub pickup: Pickup,
}

/// Times without a packet after which flows are over, in whole seconds from 1 s to 30 days.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP connections until they are established. Default 4 min (RFC 5382 REQ-5, transitory connections).
    pub tcp_opening: Duration,
    /// Established TCP connections. Default 2 h 4 min (RFC 5382 REQ-5).
    pub tcp_established: Duration,
    /// TCP connections that an end has closed or reset. Default 4 min (RFC 5382 REQ-5, transitory connections).
    pub tcp_closing: Duration,
    /// UDP flows until their originator has sent again after an answer. Default 2 min (RFC 4787 REQ-5, the least).
    pub udp_opening: Duration,
    /// Other UDP flows. Default 5 min (RFC 4787 REQ-5, recommended).
    pub udp: Duration,
    /// ICMP and ICMPv6 flows. Default 60 s (RFC 5508 REQ-2).
    pub icmp: Duration,
    /// Flows of other protocols. Default 10 min.
    pub other: Duration,
}

/// Room for flows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowTables {
    /// Established flows. Default 100,000.
    pub established: u32,
    /// Flows whose originator has not yet sent again after having been answered. Default 8,192.
    pub half_open: u32,
}

/// What becomes of a TCP segment in the middle of a connection that is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pickup {
    /// The rules judge it like a first one.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(240),
            tcp_established: Duration::from_secs(7_440),
            tcp_closing: Duration::from_secs(240),
            udp_opening: Duration::from_secs(120),
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            other: Duration::from_secs(600),
        }
    }
}

impl Default for FlowTables {
    fn default() -> Self {
        Self { established: 100_000, half_open: 8_192 }
    }
}

/// Keys of the document that this decodes.
pub(crate) const KEYS: [&str; 3] = ["timeouts", "flows", "tcp"];

/// Longest of [`Timeouts`], in seconds: 30 days.
const TIMEOUT_MAX: u64 = 2_592_000;
/// Bounds of [`FlowTables::established`]: the largest takes 0.9 GiB of kernel memory.
const ESTABLISHED: (i64, i64) = (1_024, 4_194_304);
/// Bounds of [`FlowTables::half_open`].
const HALF_OPEN: (i64, i64) = (256, 1_048_576);

/// Decodes `timeouts`, `flows` and `tcp`.
pub(crate) fn decode(reader: &mut Reader<'_>, section: &mut Section) -> Option<Tracking> {
    let timeouts = reader.optional(section, "timeouts", timeouts);
    let flows = reader.optional(section, "flows", flows);
    let pickup = reader.optional(section, "tcp", tcp);
    Some(Tracking {
        timeouts: timeouts?.unwrap_or_default(),
        flows: flows?.unwrap_or_default(),
        pickup: pickup?.unwrap_or_default(),
    })
}

fn timeouts(reader: &mut Reader<'_>, node: Node) -> Option<Timeouts> {
    let mut section = reader.section(node)?;
    let mut value = |key, default| {
        reader
            .optional(&mut section, key, timeout)
            .map(|given: Option<Duration>| given.unwrap_or(default))
    };
    let default = Timeouts::default();
    let tcp_opening = value("tcp_opening", default.tcp_opening);
    let tcp_established = value("tcp_established", default.tcp_established);
    let tcp_closing = value("tcp_closing", default.tcp_closing);
    let udp_opening = value("udp_opening", default.udp_opening);
    let udp = value("udp", default.udp);
    let icmp = value("icmp", default.icmp);
    let other = value("other", default.other);
    reader.close(section);
    Some(Timeouts {
        tcp_opening: tcp_opening?,
        tcp_established: tcp_established?,
        tcp_closing: tcp_closing?,
        udp_opening: udp_opening?,
        udp: udp?,
        icmp: icmp?,
        other: other?,
    })
}

fn timeout(reader: &mut Reader<'_>, node: Node) -> Option<Duration> {
    decode::checked(reader, node, |text| {
        decode::duration(text)
            .filter(|time| (1..=TIMEOUT_MAX).contains(&time.as_secs()))
            .ok_or_else(|| {
                Malformed::new(
                    "a time from 1s to 30d",
                    "write a number and s, m, h or d, like 30s or 2h",
                )
            })
    })
}

fn flows(reader: &mut Reader<'_>, node: Node) -> Option<FlowTables> {
    let mut section = reader.section(node)?;
    let mut value = |key, (low, high), default| {
        reader
            .optional(&mut section, key, |reader, node| {
                decode::integer::<u32>(reader, node, low, high)
            })
            .map(|given| given.unwrap_or(default))
    };
    let default = FlowTables::default();
    let established = value("established", ESTABLISHED, default.established);
    let half_open = value("half_open", HALF_OPEN, default.half_open);
    reader.close(section);
    Some(FlowTables { established: established?, half_open: half_open? })
}

fn tcp(reader: &mut Reader<'_>, node: Node) -> Option<Pickup> {
    let mut section = reader.section(node)?;
    let pickup = reader.optional(&mut section, "pickup", |reader, node| {
        decode::checked(reader, node, |text| match text {
            "allow" => Ok(Pickup::Allow),
            "refuse" => Ok(Pickup::Refuse),
            _ => Err(Malformed::new(
                "allow or refuse",
                "write allow to let the rules judge segments of unknown connections, or refuse",
            )),
        })
    });
    reader.close(section);
    Some(pickup?.unwrap_or_default())
}
