use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{RouteAttribute, RouteType},
};

use crate::{error::NetlinkError, handle::Netlink, interface::InterfaceIndex, prefix::Prefix};

/// What the routing table says about a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// It is for this host.
    Local,
    /// It leaves by an interface.
    By(InterfaceIndex),
    /// It goes nowhere, in the kernel's words.
    Nowhere(String),
}

/// A packet to look a way up for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passenger {
    /// Its source; of the destination's family.
    pub source: Option<IpAddr>,
    /// Its destination.
    pub destination: IpAddr,
    /// Interface it came in by; `None` if this host sends it.
    pub input: Option<InterfaceIndex>,
}

impl Netlink {
    /// Asks where a packet goes.
    pub async fn way(&self, packet: Passenger) -> Result<Way, NetlinkError> {
        let object = format!("route to {}", packet.destination);
        let invalid =
            |error| NetlinkError::io("describe", object.clone(), std::io::Error::other(error));
        let mut query = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(packet.destination, Prefix::host(packet.destination).length())
            .map_err(invalid)?;
        if let Some(source) = packet.source {
            query = query.source_prefix(source, Prefix::host(source).length()).map_err(invalid)?;
        }
        if let Some(input) = packet.input {
            query = query.input_interface(input.value());
        }
        let mut answers = Box::pin(self.handle.route().get(query.build()).execute());
        let answer = match answers.try_next().await {
            Ok(answer) => answer,
            Err(rtnetlink::Error::NetlinkError(message)) => {
                return Ok(Way::Nowhere(message.to_io().to_string()));
            }
            Err(error) => return Err(NetlinkError::request("look up", object, error)),
        };
        let missing = |missing| NetlinkError::Incomplete { object: object.clone(), missing };
        let answer = answer.ok_or_else(|| missing("route"))?;
        if answer.header.kind == RouteType::Local {
            return Ok(Way::Local);
        }
        if answer.header.kind != RouteType::Unicast {
            return Ok(Way::Nowhere(format!("{:?} route", answer.header.kind)));
        }
        let interface = answer.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Oif(index) = attribute {
                InterfaceIndex::new(*index)
            } else {
                None
            }
        });
        interface.map(Way::By).ok_or_else(|| missing("interface"))
    }
}
