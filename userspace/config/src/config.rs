//! The whole document.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use crate::{
    decode, dns,
    dns::Dns,
    endpoint::Endpoint,
    firewall,
    firewall::Zone,
    mirror,
    mirror::Mirror,
    names::ZoneName,
    node::Node,
    reader::{Reader, Section},
    rule,
    rule::Rule,
};

/// Configuration of a router or gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The router.
    pub router: Router,
    /// UNIX socket for the operator. Default `/run/nightgate/gateway.sock`.
    pub admin_socket: PathBuf,
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
}

/// A gateway's firewall, DNS and mirror.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Zones by name, without the reserved ones; at least one.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// Rules in order: the first that matches wins, and what matches none is refused.
    pub rules: Vec<Rule>,
    /// Private DNS.
    pub dns: Option<Dns>,
    /// Mirroring.
    pub mirror: Option<Mirror>,
}

/// Version of the schema.
const VERSION: i64 = 1;
/// Default of `admin_socket`.
const ADMIN_SOCKET: &str = "/run/nightgate/gateway.sock";

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Config> {
    let mut section = reader.section(node)?;
    let version = reader.required(&mut section, "version", |reader, node| {
        decode::integer::<i64>(reader, node, VERSION, VERSION)
    });
    let router = reader.required(&mut section, "router", router);
    let admin_socket = reader.optional(&mut section, "admin_socket", decode::path);
    let gateway = gateway(reader, &mut section);
    reader.close(section);
    version?;
    Some(Config {
        router: router?,
        admin_socket: admin_socket?.unwrap_or_else(|| ADMIN_SOCKET.into()),
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
    reader.close(section);
    Some(Router { identity: identity?, listen: listen?, advertise: advertise? })
}

/// The outer `None` means that something is wrong with it.
fn gateway(reader: &mut Reader<'_>, section: &mut Section) -> Option<Option<Gateway>> {
    let lines = ["rules", "dns", "mirror"].map(|key| (key, section.line_of(key)));
    let zones = reader.optional(section, "zones", |reader, node| {
        let line = node.line;
        let zones = firewall::decode(reader, node)?;
        if zones.is_empty() {
            reader.report(line, "no zones", "at least one zone", "add one, or remove zones");
        }
        Some(zones)
    });
    let names: Option<BTreeSet<ZoneName>> = match &zones {
        Some(Some(zones)) => Some(zones.keys().cloned().collect()),
        Some(None) | None => None,
    };
    let rules = reader
        .optional(section, "rules", |reader, node| rule::decode(reader, node, names.as_ref()));
    let dns = reader.optional(section, "dns", dns::decode);
    let mirror = reader.optional(section, "mirror", mirror::decode);
    if let Some(None) = zones {
        let present = [
            matches!(rules, None | Some(Some(_))),
            matches!(dns, None | Some(Some(_))),
            matches!(mirror, None | Some(Some(_))),
        ];
        for ((key, line), _) in lines.into_iter().zip(present).filter(|(_, present)| *present) {
            reader.under(key, |reader| {
                let remedy = "add zones to make this a gateway, or remove the key";
                reader.report(line, "present without zones", "zones beside it", remedy);
            });
        }
        return Some(None);
    }
    Some(Some(Gateway {
        zones: zones??,
        rules: rules?.unwrap_or_default(),
        dns: dns?,
        mirror: mirror?,
    }))
}
