//! Mirroring to sensors.

mod filter;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    ConfigError,
    decode::{self, Malformed},
    files::NoFiles,
    icmp::IcmpType,
    mac::MacAddress,
    names::{InterfaceName, SensorName, SetName, ZoneName},
    nat::FlowMatch,
    node::{self, Node},
    reader::{Reader, Section},
    rule,
    sets::Set,
    telemetry::{self, PacketFiles},
};

pub use session::{MirrorDirection, Session, Vlan};

/// Copies of services' plaintext for intrusion detection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Sensors by name.
    pub sensors: BTreeMap<SensorName, Sensor>,
    /// What is copied to which sensor.
    pub sessions: Vec<Session>,
    /// What no session copies.
    pub never: NeverMirrored,
    /// Whether the controller may ask for sessions. Default true.
    pub remote: bool,
}

/// What a tunneler copies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TunnelMirror {
    /// To which sensors.
    pub mirror: Mirror,
    /// Capture files.
    pub packets: Option<PacketFiles>,
}

/// What no session copies, whatever it says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NeverMirrored {
    /// Names of services.
    pub services: Vec<String>,
    /// Names of identities: nothing that they dial.
    pub identities: Vec<String>,
    /// Flows.
    pub filter: Vec<FilterEntry>,
}

/// An entry of a session's filter, of which the first that matches a flow decides. Of the sessions that take a flow, the
/// first one copies it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterEntry {
    /// Which flows. What sets hold is among the addresses and ports.
    pub matching: FlowMatch,
    /// Messages that begin them; only with ICMP and ICMPv6.
    pub icmp_types: Vec<IcmpType>,
    /// Source MAC addresses of the packets that begin them; these then have to come in by an interface.
    pub source_mac: Vec<MacAddress>,
    /// Whether they are copied.
    pub sense: Sense,
}

/// What a filter's entry says of the flows that it matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sense {
    /// The session copies them.
    Copy,
    /// It does not; sessions after it may.
    Skip,
}

/// Where copies go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sensor {
    /// Interface towards it.
    pub interface: InterfaceName,
    /// How copies are wrapped. Default [`Encapsulation::Vxlan`].
    pub encapsulation: Encapsulation,
    /// Its address; `None` with [`Encapsulation::Local`].
    pub address: Option<IpAddr>,
    /// UDP destination port, 1 to 65535, of encapsulations over UDP; default [`Encapsulation::udp_port`].
    pub udp_port: Option<u16>,
    /// How it is found out whether it is in order.
    pub check: SensorCheck,
}

/// How a sensor is checked: its link and, if it has an address, whether somebody answers for that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SensorCheck {
    /// Time between two checks, 1 s to 1 h; default 1 s.
    pub every: Duration,
    /// Failed checks in a row after which it gets no copies, 1 to 100; default 3.
    pub failures: u32,
    /// TCP port of it that has to take connections; `None` for no such check.
    pub tcp: Option<u16>,
    /// Whether it has to answer echo requests.
    pub ping: bool,
}

impl Default for SensorCheck {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), failures: 3, tcp: None, ping: false }
    }
}

/// What copies are put into.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    Vxlan,
    /// GENEVE (RFC 8926) with an option that says what is known of the packet.
    Geneve,
    /// ERSPAN type II (draft-foschiano-erspan-03).
    Erspan,
    /// Ethernet over GRE with a key (RFC 2784, RFC 2890).
    Gre,
    /// Nothing: frames leave by the interface as they are.
    Local,
}

impl Encapsulation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vxlan, Self::Geneve, Self::Erspan, Self::Gre, Self::Local];

    /// The UDP destination port that IANA has assigned: 4789 (RFC 7348 section 5), 6081 (RFC 8926 section 3.3). `None`
    /// for what is not over UDP.
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            Self::Vxlan => Some(4789),
            Self::Geneve => Some(6081),
            Self::Erspan | Self::Gre | Self::Local => None,
        }
    }

    /// The largest identifier of a session: 24 bits of VXLAN and GENEVE, 10 of ERSPAN; of a GRE key's 32, 24 are used.
    pub const fn id_max(self) -> u32 {
        match self {
            Self::Vxlan | Self::Geneve | Self::Gre | Self::Local => (1 << 24) - 1,
            Self::Erspan => (1 << 10) - 1,
        }
    }

    /// The word in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Erspan => "erspan",
            Self::Gre => "gre",
            Self::Local => "local",
        }
    }
}

impl core::fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decodes the section. Filters name what is `known`.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    known: &rule::Known<'_>,
) -> Option<Mirror> {
    let mut section = reader.section(node)?;
    let mirror = keys(reader, &mut section, known);
    reader.close(section);
    mirror
}

fn keys(reader: &mut Reader<'_>, section: &mut Section, known: &rule::Known<'_>) -> Option<Mirror> {
    let sensors = reader.required(section, "sensors", sensors);
    let mut seen = BTreeMap::new();
    let sessions = reader.required(section, "sessions", |reader, node| {
        // No session is blamed for wrong sensors.
        let known = Known { sensors: sensors.as_ref(), filters: known };
        reader.list(node, |reader, node| session::decode(reader, node, &known, &mut seen))
    });
    let never = reader.optional(section, "never", |reader, node| never(reader, node, known));
    let remote = reader.optional(section, "remote", decode::boolean);
    Some(Mirror {
        sensors: sensors?,
        sessions: sessions?,
        never: never?.unwrap_or_default(),
        remote: remote?.unwrap_or(true),
    })
}

/// Reads a session that stands by itself, with the keys of one in a file; JSON is YAML too. It cannot filter by zones.
/// `name` is only named in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn session(
    text: &str,
    name: &str,
    sensors: &BTreeMap<SensorName, Sensor>,
) -> Result<Session, Vec<ConfigError>> {
    let mut files = NoFiles;
    let mut reader = Reader::new(name, &mut files);
    let nothing = NoRules::default();
    let known = Known { sensors: Some(sensors), filters: &nothing.known() };
    let session = node::parse(text, &mut reader)
        .and_then(|root| session::decode(&mut reader, root, &known, &mut BTreeMap::new()));
    reader.finish(session)
}

/// Reads what a tunneler copies: a section that stands by itself. There are no zones, and packets are copied at one place,
/// so sessions are of services and identities. `file` is only named in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn of_tunneler(text: &str, file: &str) -> Result<TunnelMirror, Vec<ConfigError>> {
    let mut files = NoFiles;
    let mut reader = Reader::new(file, &mut files);
    let mirror = node::parse(text, &mut reader).and_then(|root| {
        let line = root.line;
        // Which zones and sets filters name, nobody is told: they have no place here at all.
        let mut section = reader.section(root)?;
        let mirror = keys(&mut reader, &mut section, &rule::Known { zones: None, sets: None });
        let packets = reader.optional(&mut section, "packets", telemetry::packets);
        reader.close(section);
        let (mirror, packets) = (mirror?, packets?);
        let filtering = mirror
            .sessions
            .iter()
            .filter(|session| !session.filter.is_empty() || !session.interfaces.is_empty());
        let mut names: Vec<_> = filtering.map(|session| session.id.to_string()).collect();
        if !mirror.never.filter.is_empty() {
            names.push("never".to_owned());
        }
        for name in names {
            let remedy = "remove the keys, and name services or identities";
            let found = format!("filter or interfaces in {name}");
            reader.report(
                line,
                found,
                "neither of them for a tunneler, which has no zones",
                remedy,
            );
        }
        Some(TunnelMirror { mirror, packets })
    });
    reader.finish(mirror)
}

/// What sessions may name; `None` for what is wrong itself.
struct Known<'a> {
    sensors: Option<&'a BTreeMap<SensorName, Sensor>>,
    filters: &'a rule::Known<'a>,
}

/// What filters may name where there are no zones and no sets.
#[derive(Default)]
struct NoRules {
    zones: BTreeSet<ZoneName>,
    sets: BTreeMap<SetName, Set>,
}

impl NoRules {
    fn known(&self) -> rule::Known<'_> {
        rule::Known { zones: Some(&self.zones), sets: Some(&self.sets) }
    }
}

fn never(reader: &mut Reader<'_>, node: Node, known: &rule::Known<'_>) -> Option<NeverMirrored> {
    let mut section = reader.section(node)?;
    let services = rule::list(reader, &mut section, "services", decode::text);
    let identities = rule::list(reader, &mut section, "identities", decode::text);
    let filter = rule::list(reader, &mut section, "filter", |reader, node| {
        let mut section = reader.section(node)?;
        let entry = filter::decode(reader, &mut section, known);
        reader.close(section);
        entry
    });
    reader.close(section);
    Some(NeverMirrored { services: services?, identities: identities?, filter: filter? })
}

fn sensors(reader: &mut Reader<'_>, node: Node) -> Option<BTreeMap<SensorName, Sensor>> {
    let mut sensors = BTreeMap::new();
    let mut is_complete = true;
    for (key, node) in reader.entries(node)? {
        let entry = reader.under(&key.text, |reader| {
            let name = match SensorName::check(&key.text) {
                Ok(name) => Some(name),
                Err(Malformed { expected, remedy }) => {
                    reader.report(key.line, format!("the key {:?}", key.text), expected, remedy);
                    None
                }
            };
            let sensor = sensor(reader, node);
            Some((name?, sensor?))
        });
        is_complete &= entry.is_some();
        sensors.extend(entry);
    }
    is_complete.then_some(sensors)
}

fn sensor(reader: &mut Reader<'_>, node: Node) -> Option<Sensor> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let address = reader.optional(&mut section, "address", |reader, node| {
        decode::checked(reader, node, |text| {
            text.parse().map_err(|_not_an_address| {
                Malformed::new("an IP address", "write 192.0.2.1 or 2001:db8::1")
            })
        })
    });
    let interface = reader.required(&mut section, "interface", InterfaceName::decode);
    let encapsulation = reader.optional(&mut section, "encapsulation", encapsulation);
    let udp_port = reader.optional(&mut section, "udp_port", |reader, node| {
        decode::integer(reader, node, 1, u16::MAX.into())
    });
    let check = reader.optional(&mut section, "check", check);
    reader.close(section);
    let (address, udp_port) = (address?, udp_port?);
    let encapsulation = encapsulation?.unwrap_or(Encapsulation::Vxlan);
    match (encapsulation, address) {
        (Encapsulation::Local, Some(_)) => reader.under("address", |reader| {
            let remedy = "remove the key: copies leave by the interface as they are";
            reader.report(line, "an address", "none with encapsulation local", remedy);
        }),
        (Encapsulation::Local, None) | (_, Some(_)) => {}
        (_, None) => reader.under("address", |reader| {
            let remedy = "add the key address, or encapsulation: local for a sensor on the wire";
            reader.report(line, "missing", "an IP address", remedy);
        }),
    }
    if udp_port.is_some() && encapsulation.udp_port().is_none() {
        reader.under("udp_port", |reader| {
            let found = format!("a port with encapsulation {encapsulation}");
            reader.report(line, found, "a port with vxlan or geneve only", "remove the key");
        });
    }
    let udp_port = udp_port.or_else(|| encapsulation.udp_port());
    let check = check?.unwrap_or_default();
    for (key, is_there) in [("tcp", check.tcp.is_some()), ("ping", check.ping)] {
        if is_there && address.is_none() {
            reader.under("check", |reader| {
                let remedy = "remove the key: a sensor on the wire has no address";
                reader.report(line, key, "neither tcp nor ping with encapsulation local", remedy);
            });
        }
    }
    Some(Sensor { interface: interface?, encapsulation, address, udp_port, check })
}

fn check(reader: &mut Reader<'_>, node: Node) -> Option<SensorCheck> {
    const LONGEST: Duration = Duration::from_secs(3_600);
    let mut section = reader.section(node)?;
    let every = reader.optional(&mut section, "every", |reader, node| {
        decode::checked(reader, node, |text| {
            let every = decode::duration(text)
                .filter(|time| (1..=LONGEST.as_secs()).contains(&time.as_secs()));
            every.ok_or_else(|| Malformed::new("a time from 1s to 1h", "write 1s or 1m"))
        })
    });
    let failures = reader
        .optional(&mut section, "failures", |reader, node| decode::integer(reader, node, 1, 100));
    let tcp = reader.optional(&mut section, "tcp", |reader, node| {
        decode::integer(reader, node, 1, u16::MAX.into())
    });
    let ping = reader.optional(&mut section, "ping", decode::boolean);
    reader.close(section);
    let default = SensorCheck::default();
    Some(SensorCheck {
        every: every?.unwrap_or(default.every),
        failures: failures?.unwrap_or(default.failures),
        tcp: tcp?,
        ping: ping?.unwrap_or_default(),
    })
}

fn encapsulation(reader: &mut Reader<'_>, node: Node) -> Option<Encapsulation> {
    decode::checked(reader, node, |text| {
        let mut all = Encapsulation::ALL.into_iter();
        all.find(|encapsulation| encapsulation.as_str() == text).ok_or_else(|| {
            Malformed::new("vxlan, geneve, erspan, gre or local", "choose what the sensor reads")
        })
    })
}
