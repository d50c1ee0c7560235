use std::{fmt, net::IpAddr};

use futures_util::TryStreamExt;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
    },
};

use crate::{
    error::{NetlinkError, is_errno},
    family::Family,
    handle::Netlink,
    interface::{Interface, InterfaceIndex},
    prefix::Prefix,
    undo::{Step, Undo},
};

/// Originator of the product's routes and rules (`rtm_protocol` of linux/rtnetlink.h, `FRA_PROTOCOL`
/// of linux/fib_rules.h): `N`. `ip route show proto 78` lists them.
pub const ROUTE_PROTOCOL: u8 = 78;

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Destinations it covers.
    pub destination: Prefix,
    /// Router on the way; absent when the destinations are on the interface's own link.
    pub gateway: Option<IpAddr>,
    /// Interface the packets leave by.
    pub interface: InterfaceIndex,
}

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NextHop {
    /// Interface it leaves by.
    pub interface: InterfaceIndex,
    /// Source address it gets.
    pub source: IpAddr,
    /// Router it goes to first, if any.
    pub gateway: Option<IpAddr>,
}

impl Netlink {
    /// Adds a route. One that is there already stays, and the undo removes it only when it is the
    /// product's own.
    pub async fn add_route(&self, route: Route) -> Result<Undo, NetlinkError> {
        let message = unicast(route)?;
        self.add_route_message(message, format!("route {route}")).await
    }

    /// Asks where packets to `destination` go when they leave by `interface`.
    pub async fn next_hop(
        &self,
        destination: IpAddr,
        interface: &Interface,
    ) -> Result<NextHop, NetlinkError> {
        let object = format!("route to {destination} by {}", interface.name);
        let query = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, Prefix::host(destination).length())
            .map_err(|error| invalid(&object, error))?
            .output_interface(interface.index.value())
            .build();
        let mut answers = Box::pin(self.handle.route().get(query).execute());
        let answer = answers
            .try_next()
            .await
            .map_err(|error| NetlinkError::request("look up", object.clone(), error))?;
        let missing = |missing| NetlinkError::Incomplete { object: object.clone(), missing };
        let answer = answer.ok_or_else(|| missing("route"))?;
        next_hop_from(&answer, missing)
    }

    /// Adds a route message of the product's protocol; see [`Netlink::add_route`].
    pub(crate) async fn add_route_message(
        &self,
        message: RouteMessage,
        object: String,
    ) -> Result<Undo, NetlinkError> {
        match self.handle.route().add(message.clone()).execute().await {
            Ok(()) => {}
            Err(error) if is_errno(&error, libc::EEXIST) => {
                if !self.is_own_route(&message, &object).await? {
                    return Ok(Undo::nothing());
                }
            }
            Err(error) => return Err(NetlinkError::request("add", object, error)),
        }
        Ok(Undo::of(Step::RemoveRoute { object, message: Box::new(message) }))
    }

    async fn is_own_route(
        &self,
        wanted: &RouteMessage,
        object: &str,
    ) -> Result<bool, NetlinkError> {
        let mut query = RouteMessage::default();
        query.header.address_family = wanted.header.address_family;
        let mut routes = Box::pin(self.handle.route().get(query).execute());
        while let Some(route) = routes
            .try_next()
            .await
            .map_err(|error| NetlinkError::request("list", object.to_owned(), error))?
        {
            if table(&route) == table(wanted)
                && destination(&route) == destination(wanted)
                && route.header.kind == wanted.header.kind
                && route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " by interface {}", self.interface)
    }
}

/// The route that makes every address of a family local, in a table of its own.
pub(crate) fn local_default(family: Family, table: u32, loopback: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.address_family();
    message.header.kind = RouteType::Local;
    // The kernel refuses a local route of a wider scope.
    message.header.scope = RouteScope::Host;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.table = u8::try_from(table).unwrap_or(0);
    message.attributes.push(RouteAttribute::Table(table));
    message.attributes.push(RouteAttribute::Oif(loopback));
    message
}

fn unicast(route: Route) -> Result<RouteMessage, NetlinkError> {
    let object = route.to_string();
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination.address(), route.destination.length())
        .map_err(|error| invalid(&object, error))?
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        .output_interface(route.interface.value());
    builder = match route.gateway {
        Some(gateway) => builder.gateway(gateway).map_err(|error| invalid(&object, error))?,
        None => builder.scope(RouteScope::Link),
    };
    Ok(builder.build())
}

fn invalid(object: &str, error: impl std::error::Error + Send + Sync + 'static) -> NetlinkError {
    NetlinkError::io("describe", object, std::io::Error::other(error))
}

fn next_hop_from(
    answer: &RouteMessage,
    missing: impl Fn(&'static str) -> NetlinkError,
) -> Result<NextHop, NetlinkError> {
    let (mut interface, mut source, mut gateway) = (None, None, None);
    for attribute in &answer.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            interface = InterfaceIndex::new(*index);
        } else if let RouteAttribute::PrefSource(address) = attribute {
            source = ip(address);
        } else if let RouteAttribute::Gateway(address) = attribute {
            gateway = ip(address);
        }
    }
    Ok(NextHop {
        interface: interface.ok_or_else(|| missing("interface"))?,
        source: source.ok_or_else(|| missing("source address"))?,
        gateway,
    })
}

fn table(message: &RouteMessage) -> u32 {
    let wide = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None }
    });
    wide.unwrap_or_else(|| u32::from(message.header.table))
}

fn destination(message: &RouteMessage) -> (Option<IpAddr>, u8) {
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(address) = attribute { ip(address) } else { None }
    });
    // The kernel leaves the address of a default route out.
    let length = message.header.destination_prefix_length;
    (address.filter(|_| length > 0), length)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some(IpAddr::V4(*address))
    } else if let RouteAddress::Inet6(address) = address {
        Some(IpAddr::V6(*address))
    } else {
        None
    }
}
