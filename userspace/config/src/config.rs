//! The whole document.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
};

use crate::{
    decode, dns,
    dns::Dns,
    endpoint::Endpoint,
    firewall,
    firewall::Zone,
    hosting::{self, Hosting},
    links,
    links::Links,
    log::{self, Log},
    metrics::{self, Metrics},
    mirror,
    mirror::Mirror,
    names::{SetName, ZoneName},
    nat,
    nat::Nat,
    node::Node,
    offline::{self, Offline},
    reader::{Reader, Section},
    rule,
    rule::{Known, Rule},
    sets,
    sets::Set,
    telemetry,
    telemetry::Telemetry,
    tracking,
    tracking::Tracking,
    verdict,
    verdict::Verdict,
};

/// Configuration of a router or gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The router.
    pub router: Router,
    /// UNIX socket for the operator. Default `/run/nightgate/gateway.sock`.
    pub admin_socket: PathBuf,
    /// Metrics; `None` to serve none.
    pub metrics: Option<Metrics>,
    /// What a gateway has beyond a router; `None` for a plain router.
    pub gateway: Option<Gateway>,
}

/// A router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Router {
    /// Identity file. A relative path is relative to the configuration file.
    pub identity: PathBuf,
    /// Where clients and links are accepted; `None` for a router that only dials out.
    pub listen: Option<SocketAddr>,
    /// Where clients and other routers reach it; present if `listen` is.
    pub advertise: Option<Endpoint>,
    /// Whether OpenZiti clients of 2022, which speak TLS 1.2, are accepted too. Default no.
    pub legacy_clients: bool,
    /// Links to other routers.
    pub links: Links,
    /// What it may do while it does not hear the controller.
    pub offline: Offline,
    /// Threads that carry traffic; `None` for one for each CPU.
    pub threads: Option<NonZeroUsize>,
}

/// A gateway's firewall, DNS and mirror.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Zones by name, without the reserved ones; at least one.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// Sets that rules name.
    pub sets: BTreeMap<SetName, Set>,
    /// Rules in order: the first that matches wins, and what matches none is refused.
    pub rules: Vec<Rule>,
    /// How flows are kept.
    pub tracking: Tracking,
    /// Whether packets that match no rule are logged.
    pub log_unmatched: Log,
    /// Network address translation.
    pub nat: Nat,
    /// Private DNS.
    pub dns: Option<Dns>,
    /// Mirroring.
    pub mirror: Option<Mirror>,
    /// What follows from alerts.
    pub verdict: Option<Verdict>,
    /// What is told of traffic beyond counters.
    pub telemetry: Telemetry,
    /// What it hosts with.
    pub hosting: Hosting,
}

/// Version of the schema.
const VERSION: i64 = 1;
/// More threads than any machine has CPUs are a mistake.
const MAX_THREADS: i64 = 1_024;
/// Default of `admin_socket`.
const ADMIN_SOCKET: &str = "/run/nightgate/gateway.sock";

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Config> {
    let mut section = reader.section(node)?;
    let version = reader.required(&mut section, "version", |reader, node| {
        decode::integer::<i64>(reader, node, VERSION, VERSION)
    });
    let router = reader.required(&mut section, "router", router);
    let admin_socket = reader.optional(&mut section, "admin_socket", decode::path);
    let metrics = reader.optional(&mut section, "metrics", metrics::decode);
    let gateway = gateway(reader, &mut section);
    reader.close(section);
    version?;
    Some(Config {
        router: router?,
        admin_socket: admin_socket?.unwrap_or_else(|| ADMIN_SOCKET.into()),
        metrics: metrics?,
        gateway: gateway?,
    })
}

fn router(reader: &mut Reader<'_>, node: Node) -> Option<Router> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let identity = reader.required(&mut section, "identity", decode::path);
    let listen = reader.optional(&mut section, "listen", decode::socket_address);
    let advertise = reader.optional(&mut section, "advertise", Endpoint::decode);
    if let (Some(Some(_)), Some(None)) = (&listen, &advertise) {
        reader.under("advertise", |reader| {
            let remedy = "add the host and port that others reach this router by";
            reader.report(line, "missing beside listen", "a host and port", remedy);
        });
    }
    if let (Some(None), Some(Some(_))) = (&listen, &advertise) {
        reader.under("listen", |reader| {
            let remedy = "add listen, or remove advertise from a router that only dials out";
            reader.report(line, "missing beside advertise", "an address and port", remedy);
        });
    }
    let legacy_clients = reader.optional(&mut section, "legacy_clients", decode::boolean);
    let links = reader.optional(&mut section, "links", links::links);
    let offline = reader.optional(&mut section, "offline", offline::decode);
    let threads = reader.optional(&mut section, "threads", |reader, node| {
        decode::integer::<usize>(reader, node, 1, MAX_THREADS)
    });
    reader.close(section);
    Some(Router {
        identity: identity?,
        listen: listen?,
        advertise: advertise?,
        legacy_clients: legacy_clients?.unwrap_or_default(),
        links: links?.unwrap_or_default(),
        offline: offline?.unwrap_or_default(),
        threads: threads?.and_then(NonZeroUsize::new),
    })
}

/// Keys beside `zones` that make no sense without them, as those of tracking.
const BESIDE_ZONES: [&str; 9] =
    ["sets", "rules", "nat", "log_unmatched", "dns", "mirror", "verdict", "telemetry", "hosting"];

/// The outer `None` means that something is wrong with it.
fn gateway(reader: &mut Reader<'_>, section: &mut Section) -> Option<Option<Gateway>> {
    let beside = BESIDE_ZONES.into_iter().chain(tracking::KEYS).filter(|key| section.has(key));
    let beside: Vec<_> = beside.map(|key| (key, section.line_of(key))).collect();
    let sets = reader.optional(section, "sets", sets::decode);
    let known = sets.as_ref().map(|sets| sets.clone().unwrap_or_default());
    let zones = reader.optional(section, "zones", |reader, node| {
        let line = node.line;
        let zones = firewall::decode(reader, node, known.as_ref())?;
        if zones.is_empty() {
            reader.report(line, "no zones", "at least one zone", "add one, or remove zones");
        }
        Some(zones)
    });
    let names: Option<BTreeSet<ZoneName>> = match &zones {
        Some(Some(zones)) => Some(zones.keys().cloned().collect()),
        Some(None) | None => None,
    };
    let mut ids = BTreeMap::new();
    let rules = reader.optional(section, "rules", |reader, node| {
        let known = Known { zones: names.as_ref(), sets: known.as_ref() };
        rule::decode(reader, node, &known, &mut ids)
    });
    let mut context = nat::Context { zones: names.as_ref(), ids: &mut ids };
    let nat =
        reader.optional(section, "nat", |reader, node| nat::decode(reader, node, &mut context));
    let tracking = tracking::decode(reader, section);
    let log_unmatched = reader.optional(section, "log_unmatched", log::decode);
    let dns = reader.optional(section, "dns", dns::decode);
    let mirror = reader.optional(section, "mirror", |reader, node| {
        let known = Known { zones: names.as_ref(), sets: known.as_ref() };
        mirror::decode(reader, node, &known)
    });
    let verdict = reader.optional(section, "verdict", verdict::decode);
    let telemetry = reader.optional(section, "telemetry", telemetry::decode);
    let hosting = reader.optional(section, "hosting", hosting::decode);
    if let Some(None) = zones {
        for (key, line) in beside {
            reader.under(key, |reader| {
                let remedy = "add zones to make this a gateway, or remove the key";
                reader.report(line, "present without zones", "zones beside it", remedy);
            });
        }
        return Some(None);
    }
    Some(Some(Gateway {
        zones: zones??,
        sets: known?,
        rules: rules?.unwrap_or_default(),
        tracking: tracking?,
        log_unmatched: log_unmatched?.unwrap_or_default(),
        nat: nat?.unwrap_or_default(),
        dns: dns?,
        mirror: mirror?,
        verdict: verdict?,
        telemetry: telemetry?.unwrap_or_default(),
        hosting: hosting?.unwrap_or_default(),
    }))
}
