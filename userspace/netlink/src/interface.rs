use std::{fmt, num::NonZeroU32};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use crate::{
    error::{NetlinkError, is_errno},
    handle::Netlink,
    offload,
};

/// The kernel's number of an interface within its network namespace; never zero.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InterfaceIndex(NonZeroU32);

impl InterfaceIndex {
    /// The index with this number, if it can be one.
    #[must_use]
    pub fn new(index: u32) -> Option<Self> {
        NonZeroU32::new(index).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for InterfaceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the kernel says about an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its number.
    pub index: InterfaceIndex,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; absent on interfaces without one (TUN, some tunnels).
    pub mac: Option<MacAddress>,
    /// Largest IP packet it carries, bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub state: AdminState,
    /// Whether it is switched on and something is plugged in.
    pub is_running: bool,
    /// What somebody has noted about it (`ip link set dev NAME alias TEXT`).
    pub alias: Option<String>,
    pub(crate) kind: Option<InfoKind>,
}

/// Whether the operator switched an interface on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminState {
    /// Switched on.
    Up,
    /// Switched off.
    Down,
}

impl Interface {
    /// Whether what leaves it is cut into frames, with whole checksums, by the kernel and not by the hardware.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn cuts_segments(&self) -> Result<bool, NetlinkError> {
        offload::is_off(&self.name)
    }
}

impl Netlink {
    /// Looks an interface up by its name.
    pub async fn interface(&self, name: &str) -> Result<Interface, NetlinkError> {
        self.find_interface(name)
            .await?
            .ok_or_else(|| NetlinkError::NoInterface { name: name.to_owned() })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetlinkError> {
        let listed = self.handle.link().get().execute().try_collect::<Vec<_>>().await;
        let messages = listed
            .map_err(|error| NetlinkError::request("list", "interfaces".to_owned(), error))?;
        let name = |message: &LinkMessage| {
            message.attributes.iter().find_map(|attribute| {
                if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
            })
        };
        messages
            .iter()
            .filter_map(|message| Some(interface_from(&name(message)?, message)))
            .collect()
    }

    pub(crate) async fn find_interface(
        &self,
        name: &str,
    ) -> Result<Option<Interface>, NetlinkError> {
        let mut links = Box::pin(self.handle.link().get().match_name(name).execute());
        match links.try_next().await {
            Ok(Some(message)) => interface_from(name, &message).map(Some),
            Ok(None) => Ok(None),
            Err(error) if is_errno(&error, libc::ENODEV) => Ok(None),
            Err(error) => {
                Err(NetlinkError::request("look up interface", format!("{name:?}"), error))
            }
        }
    }
}

fn interface_from(name: &str, message: &LinkMessage) -> Result<Interface, NetlinkError> {
    let incomplete =
        |missing| NetlinkError::Incomplete { object: format!("interface {name}"), missing };
    let (mut mac, mut mtu, mut kind, mut alias) = (None, None, None, None);
    for attribute in &message.attributes {
        if let LinkAttribute::Address(bytes) = attribute {
            mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
        } else if let LinkAttribute::Mtu(bytes) = attribute {
            mtu = Some(*bytes);
        } else if let LinkAttribute::IfAlias(text) = attribute {
            alias = Some(text.clone());
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            kind = infos.iter().find_map(|info| {
                if let LinkInfo::Kind(kind) = info { Some(kind.clone()) } else { None }
            });
        }
    }
    let state = if message.header.flags.contains(LinkFlags::Up) {
        AdminState::Up
    } else {
        AdminState::Down
    };
    Ok(Interface {
        index: InterfaceIndex::new(message.header.index).ok_or_else(|| incomplete("index"))?,
        name: name.to_owned(),
        mac,
        mtu: mtu.ok_or_else(|| incomplete("MTU"))?,
        state,
        is_running: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        alias,
        kind,
    })
}
