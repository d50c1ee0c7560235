//! What the tunneler's hooks share with it: which connections of the host's own programs they turn to it, and
//! what they tell of each. Hooks are on cgroups, or, where these are not to be had, on interfaces.

use crate::Address;

/// Names of the maps in the tunneler's object.
pub mod maps {
    /// One [`super::TunnelSettings`].
    pub const SETTINGS: &str = "TUNNEL_SETTINGS";
    /// [`super::Doors`] by prefixes of [`crate::Address`].
    pub const DESTINATIONS: &str = "TUNNEL_DESTS";
    /// Slot of a port of the tunneler, by [`super::listener`].
    pub const LISTENERS: &str = "TUNNEL_PORTS";
    /// [`super::Origin`] by [`super::OriginKey`], least recently used out first.
    pub const ORIGINS: &str = "TUNNEL_ORIGINS";
    /// Socket cookie by [`super::Source`], least recently used out first.
    pub const SOURCES: &str = "TUNNEL_SOURCES";
    /// Number of the service by [`super::Taken`], least recently used out first: what hooks on interfaces have taken.
    pub const TAKEN: &str = "TUNNEL_TAKEN";
    /// Number of the mirror session, a `u32`, by number of the service whose flows it copies.
    pub const MIRRORED: &str = "TUNNEL_MIRRORED";
    /// [`super::Copied`] by [`super::Taken`] as packets at the loopback interface have them, least recently used out first.
    pub const COPIED: &str = "TUNNEL_COPIED";
    /// [`crate::Intercept`] by [`crate::intercept::hosted_number`], a `u32`: what connections to servers of hosted services are. Numbers
    /// go up to [`crate::limits::HOSTED`].
    pub const HOSTED: &str = "TUNNEL_HOSTED";
}

/// Mark of what the tunneler itself sends where its hooks are on interfaces, so that they leave it alone.
pub const OWN_MARK: u32 = 0x4e47_0002;

/// Upper half of the packet mark of what the tunneler sends to servers of the services that it hosts ("NI"): another than
/// that of a gateway, which may run on the same host.
pub const HOSTED_MARK: u32 = 0x4e49_0000;

/// UDP ports of the tunneler in each family, so that a socket may talk to as many intercepted destinations: each
/// reaches the tunneler at another port, by which it tells them apart.
pub const SLOTS: u32 = 16;
/// Most stretches of ports that one prefix may have.
pub const DOORS: usize = 16;
/// Most prefixes.
pub const DESTINATIONS: usize = 65_536;
/// Most connections and flows that are known at a time.
pub const ORIGINS: usize = 65_536;

/// Value of [`maps::SETTINGS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TunnelSettings {
    /// Cookie of the network namespace whose sockets are turned to the tunneler; it listens in no other.
    pub namespace: u64,
    /// The tunneler lives at least until then (nanoseconds of CLOCK_MONOTONIC).
    pub alive_until: u64,
    /// The tunneler's process, whose own connections are left alone.
    pub process: u32,
    /// Any of [`flag`].
    pub flags: u32,
    /// TCP port of the tunneler at 127.0.0.1 and ::1.
    pub tcp_port: u16,
    /// Its UDP ports.
    pub udp_ports: [u16; SLOTS as usize],
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<TunnelSettings>() == 64);

/// Bits of [`TunnelSettings::flags`].
pub mod flag {
    /// When the tunneler has gone, connections to intercepted destinations are refused; otherwise they are not
    /// intercepted.
    pub const FAIL_CLOSED: u32 = 1;
    /// UDP and TCP to port 53 of hosts other than this one is turned to the tunneler's DNS.
    pub const DNS: u32 = 2;
}

/// The port of DNS (RFC 1035 section 4.2.1).
pub const DNS_PORT: u16 = 53;
/// [`Door::service`] and [`Origin::service`] of what goes to the tunneler's DNS.
pub const DNS_SERVICE: u32 = u32::MAX;

/// Value of [`maps::DESTINATIONS`]: all ports that are intercepted at the addresses of a prefix, those of shorter
/// prefixes around it included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Doors {
    /// How many of [`Self::doors`] count.
    pub count: u32,
    /// In no order.
    pub doors: [Door; DOORS],
}

const _: () = assert!(size_of::<Doors>() == 196);

/// A stretch of ports that is one service's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Door {
    /// Number of the service, chosen by the tunneler; not [`DNS_SERVICE`], and 0 for ports that are not intercepted,
    /// whatever doors come after.
    pub service: u32,
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
    /// IP protocol: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Door>() == 12);

impl Default for Doors {
    fn default() -> Self {
        Self { count: 0, doors: [Door::default(); DOORS] }
    }
}

/// Key of [`maps::ORIGINS`]. A TCP socket has one destination, in slot 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct OriginKey {
    /// The socket's cookie: a number that no other socket has until the host is restarted.
    pub cookie: u64,
    /// Which of its destinations.
    pub slot: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<OriginKey>() == 16);

/// Value of [`maps::ORIGINS`]: where a program wanted to connect or send to, and which program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Address it wanted.
    pub destination: Address,
    /// Its cgroup's number: the inode of the folder.
    pub cgroup: u64,
    /// When (nanoseconds of CLOCK_MONOTONIC).
    pub at: u64,
    /// Number of the service.
    pub service: u32,
    /// Its process.
    pub process: u32,
    /// Its user.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Port it wanted.
    pub port: u16,
    /// IP protocol: 6 or 17.
    pub protocol: u8,
    /// 1 if the socket is connected, so that what it sends passes no hook.
    pub connected: u8,
    /// Zero.
    pub pad: u32,
    /// Name of its thread, ended by zeros (`comm` of proc_pid_comm(5)).
    pub command: [u8; 16],
}

const _: () = assert!(size_of::<Origin>() == 72);

/// Key of [`maps::SOURCES`]: whence the tunneler sees a connection or datagram come.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Source {
    /// Address.
    pub address: Address,
    /// Port.
    pub port: u16,
    /// IP protocol: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 5],
}

const _: () = assert!(size_of::<Source>() == 24);

impl Source {
    /// A source.
    #[inline(always)]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, port, protocol, pad: [0; 5] }
    }
}

/// Key of [`maps::TAKEN`]: the ends of a connection or UDP flow, as its packets have them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Taken {
    /// The program's address.
    pub source: Address,
    /// Where it wanted to.
    pub destination: Address,
    /// The program's port.
    pub source_port: u16,
    /// Port that it wanted.
    pub destination_port: u16,
    /// IP protocol: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Taken>() == 40);

impl Taken {
    /// The ends as those of an answer have them.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            pad: [0; 3],
        }
    }
}

/// Value of [`maps::COPIED`]: a flow that a mirror session copies between its program and the tunneler, or between the
/// tunneler and the server of a hosted service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Its ends as copies have them: where the program wanted to, and the host's address towards there; those of its packets
    /// if it is hosted.
    pub shown: Taken,
    /// Bytes of its packets so far, in both directions.
    pub bytes: u64,
    /// Number of the service.
    pub service: u32,
    /// Number of the session.
    pub session: u16,
    /// The same for all packets of the flow ([`crate::mirror::flow_hash`]).
    pub hash: u16,
    /// Interface where it began, and where it is copied: below that one, its packets pass others again.
    pub ifindex: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Copied>() == 64);

/// Key of [`maps::LISTENERS`].
#[inline(always)]
pub const fn listener(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}
