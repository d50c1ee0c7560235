//! Links to other routers.

use std::collections::BTreeSet;

use crate::{decode, names::LinkGroup, node::Node, reader::Reader};

/// Connections of a link at most.
const MOST_CONNECTIONS: i64 = 8;

/// Which links a router makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Links {
    /// Connections to each router that it dials, 1 to 8. Default 2.
    pub connections: usize,
    /// What each of its links costs besides the milliseconds of its round trip, 1 to 65535. Default 1.
    pub cost: u16,
    /// It dials listening routers of these groups; none for a router that waits to be dialed. Default `default`.
    pub dial: BTreeSet<LinkGroup>,
    /// Routers of these groups may dial it. Default `default`.
    pub listen: BTreeSet<LinkGroup>,
}

impl Default for Links {
    fn default() -> Self {
        let groups: BTreeSet<_> = LinkGroup::new("default").into_iter().collect();
        Self { connections: 2, cost: 1, dial: groups.clone(), listen: groups }
    }
}

pub(crate) fn links(reader: &mut Reader<'_>, node: Node) -> Option<Links> {
    let mut section = reader.section(node)?;
    let connections = reader.optional(&mut section, "connections", |reader, node| {
        decode::integer(reader, node, 1, MOST_CONNECTIONS)
    });
    let cost = reader.optional(&mut section, "cost", |reader, node| {
        decode::integer(reader, node, 1, u16::MAX.into())
    });
    let dial = reader.optional(&mut section, "dial", groups);
    let listen = reader.optional(&mut section, "listen", groups);
    reader.close(section);
    let default = Links::default();
    Some(Links {
        connections: connections?.unwrap_or(default.connections),
        cost: cost?.unwrap_or(default.cost),
        dial: dial?.unwrap_or(default.dial),
        listen: listen?.unwrap_or(default.listen),
    })
}

fn groups(reader: &mut Reader<'_>, node: Node) -> Option<BTreeSet<LinkGroup>> {
    Some(reader.list(node, LinkGroup::decode)?.into_iter().collect())
}
