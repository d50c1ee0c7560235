//! The tunneler's hooks: what programs of this host connect and send to intercepted destinations goes to the
//! tunneler's sockets.

mod copies;
mod interfaces;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, MapData, lpm_trie::Key},
    programs::{
        CgroupAttachMode, CgroupSockAddr, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
    },
};
use nightgate_abi::{
    Address, Intercept,
    mirror::MirrorSessionId,
    tunnel::{Doors, Origin, OriginKey, SLOTS, Source, Taken, TunnelSettings, listener, maps},
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    error::DatapathError,
    interface::IfIndex,
    link::unusable,
    map::{self, failed},
    namespace, object, pins,
};

/// Programs on cgroups.
const HOOKS: [&str; 8] = [
    "tunnel_connect4",
    "tunnel_connect6",
    "tunnel_send4",
    "tunnel_send6",
    "tunnel_receive4",
    "tunnel_receive6",
    "tunnel_peer4",
    "tunnel_peer6",
];
/// The program at the loopback interface.
const LOOPBACK: &str = "tunnel_loopback";
/// IP protocols (IANA).
const TCP: u8 = 6;
/// Likewise.
const UDP: u8 = 17;

/// Ports that are intercepted at the addresses of a prefix: address, length, ports.
pub type Destinations = BTreeMap<(IpAddr, u8), Doors>;

/// What the hooks are attached to.
#[derive(Clone, Debug)]
pub enum TunnelHooks {
    /// Folders of the cgroups whose programs are turned to the tunneler; none to turn nobody there.
    Cgroups(Vec<PathBuf>),
    /// Interfaces that the host's packets leave by: what they send to intercepted destinations is handed to transparent
    /// sockets, by a mark ([`nightgate_abi::INTERCEPT_MARK`]) that policy routing has to deliver to this host. Which
    /// program has sent it is not known.
    Interfaces(Vec<TunnelInterface>),
}

/// An interface that the host's packets leave by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TunnelInterface {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Whether its packets have Ethernet headers.
    pub has_ethernet: bool,
}

/// Where the hooks are, and what they turn connections to.
#[derive(Clone, Debug)]
pub struct TunnelPlace {
    /// What they are attached to.
    pub hooks: TunnelHooks,
    /// TCP port of the tunneler at 127.0.0.1 and at ::1.
    pub tcp_port: u16,
    /// Its UDP ports at both; hooks on interfaces use the first alone.
    pub udp_ports: [u16; SLOTS as usize],
    /// Any of [`nightgate_abi::tunnel::flag`].
    pub flags: u32,
    /// Folder in a BPF file system where the hooks stay when this process is killed; without, they go with it.
    pub pins: Option<PathBuf>,
}

/// The hooks at work. Dropping it takes them away.
#[derive(Debug)]
pub struct Tunnel {
    ebpf: Ebpf,
    settings: TunnelSettings,
    destinations: Destinations,
    /// Dropped one after the other: programs see their own addresses again first.
    held: Vec<FdLink>,
    pinned: Vec<PinnedLink>,
    pins: Option<PathBuf>,
    /// Interfaces that have hooks.
    covered: BTreeSet<IfIndex>,
    /// Interfaces where what is hosted is copied.
    serving: BTreeSet<IfIndex>,
    /// What connections to servers of hosted services are, by their numbers.
    hosted: BTreeMap<u16, Intercept>,
    /// Mirror sessions by number of the service whose flows they copy.
    mirrored: BTreeMap<u32, MirrorSessionId>,
}

impl Tunnel {
    /// Loads the hooks and attaches them. Nothing is intercepted yet, and nothing will be before
    /// [`Tunnel::live`].
    ///
    /// # Errors
    /// A cgroup is none, or the kernel refuses.
    pub fn start(place: &TunnelPlace) -> Result<Self, DatapathError> {
        let settings = TunnelSettings {
            namespace: namespace::cookie()?,
            process: std::process::id(),
            flags: place.flags,
            tcp_port: place.tcp_port,
            udp_ports: place.udp_ports,
            ..TunnelSettings::default()
        };
        let mut tunnel = Self {
            ebpf: object::load_tunnel()?,
            settings,
            destinations: Destinations::new(),
            held: Vec::new(),
            pinned: Vec::new(),
            pins: place.pins.clone(),
            covered: BTreeSet::new(),
            serving: BTreeSet::new(),
            hosted: BTreeMap::new(),
            mirrored: BTreeMap::new(),
        };
        tunnel.write_settings()?;
        tunnel.write_listeners()?;
        let hooks = match &place.hooks {
            TunnelHooks::Cgroups(cgroups) => tunnel.attach_to_cgroups(cgroups)?,
            TunnelHooks::Interfaces(interfaces) => tunnel.attach_to_interfaces(interfaces)?,
        };
        if let Some(folder) = &place.pins {
            clear(folder)?;
        }
        tunnel.keep(hooks)?;
        Ok(tunnel)
    }

    /// Promises that the tunneler lives for so long; after that, without another promise, nothing is turned to it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn live(&mut self, time: Duration) -> Result<(), DatapathError> {
        self.settings.alive_until = now().saturating_add(nanoseconds(time));
        self.write_settings()
    }

    /// What is intercepted.
    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Intercepts these destinations and no others. Connections that are there go on.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many: some of the change may have been made.
    pub fn set_destinations(&mut self, wanted: Destinations) -> Result<(), DatapathError> {
        let name = maps::DESTINATIONS;
        let mut trie: LpmTrie<_, Address, Doors> =
            LpmTrie::try_from(map::map_mut(&mut self.ebpf, name)?).map_err(failed("open", name))?;
        for gone in self.destinations.keys().filter(|prefix| !wanted.contains_key(prefix)) {
            map::removed(trie.remove(&key(*gone))).map_err(failed("write", name))?;
        }
        for (prefix, doors) in &wanted {
            if self.destinations.get(prefix) != Some(doors) {
                trie.insert(&key(*prefix), doors, 0).map_err(failed("write", name))?;
            }
        }
        self.destinations = wanted;
        Ok(())
    }

    /// Whence a connection or datagram comes that has reached the tunneler from `source` at the port of `slot`
    /// (0 for TCP); `None` if no hook has turned it there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn origin(
        &self,
        source: SocketAddr,
        protocol: u8,
        slot: u32,
    ) -> Result<Option<(OriginKey, Origin)>, DatapathError> {
        let sources = map::hash::<Source, u64>(&self.ebpf, maps::SOURCES)?;
        let source = Source::new(Address::from(source.ip()), source.port(), protocol);
        let Some(cookie) = found(sources.get(&source, 0)).map_err(failed("read", maps::SOURCES))?
        else {
            return Ok(None);
        };
        let key = OriginKey { cookie, slot, pad: 0 };
        let origins = map::hash::<OriginKey, Origin>(&self.ebpf, maps::ORIGINS)?;
        let origin = found(origins.get(&key, 0)).map_err(failed("read", maps::ORIGINS))?;
        Ok(origin.map(|origin| (key, origin)))
    }

    /// Forgets a destination of a socket that needs it no longer.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&mut self, key: &OriginKey) -> Result<(), DatapathError> {
        let mut origins: HashMap<&mut MapData, OriginKey, Origin> =
            map::hash_mut(&mut self.ebpf, maps::ORIGINS)?;
        map::removed(origins.remove(key)).map(drop).map_err(failed("write", maps::ORIGINS))
    }

    fn write_settings(&mut self) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::SETTINGS)?
            .set(0, self.settings, 0)
            .map_err(failed("write", maps::SETTINGS))
    }

    fn write_listeners(&mut self) -> Result<(), DatapathError> {
        let udp = (0_u32..).zip(self.settings.udp_ports).map(|(slot, port)| (slot, UDP, port));
        let all: Vec<_> = udp.chain([(0, TCP, self.settings.tcp_port)]).collect();
        let mut listeners = map::hash_mut::<u32, u32>(&mut self.ebpf, maps::LISTENERS)?;
        all.into_iter().try_for_each(|(slot, protocol, port)| {
            listeners
                .insert(listener(protocol, port), slot, 0)
                .map_err(failed("write", maps::LISTENERS))
        })
    }

    fn attach_to_cgroups(
        &mut self,
        cgroups: &[PathBuf],
    ) -> Result<Vec<(String, FdLink)>, DatapathError> {
        let loopback = self.attach_to_interface(LOOPBACK, "lo", TcAttachType::Egress)?;
        let mut hooks = vec![("loopback".to_owned(), loopback)];
        for (index, path) in cgroups.iter().enumerate() {
            let cgroup = open_cgroup(path)?;
            for program in HOOKS {
                hooks.push((format!("{index}-{program}"), self.attach(program, &cgroup)?));
            }
        }
        Ok(hooks)
    }

    /// Keeps hooks attached: for as long as this lives, or as they are pinned.
    fn keep(&mut self, hooks: Vec<(String, FdLink)>) -> Result<(), DatapathError> {
        for (name, link) in hooks {
            match &self.pins {
                Some(folder) => self.pinned.push(pin(link, &folder.join(name))?),
                None => self.held.push(link),
            }
        }
        Ok(())
    }

    fn attach(&mut self, name: &'static str, cgroup: &File) -> Result<FdLink, DatapathError> {
        let program: &mut CgroupSockAddr = self
            .ebpf
            .program_mut(name)
            .ok_or(DatapathError::Missing { object: name })?
            .try_into()
            .map_err(refused("find", name))?;
        let attach = |program: &mut CgroupSockAddr| {
            once(program.load())?;
            // A link takes no mode: others stay beside it (Linux 5.7).
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?).map_err(unusable)
        };
        attach(program).map_err(refused("attach", name))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for link in self.pinned.drain(..) {
            if let Err(error) = link.unpin() {
                tracing::warn!(%error, "a hook of the tunneler stays attached");
            }
        }
    }
}

/// Takes away the hooks that an earlier tunneler has left in a folder: from then on, only the new ones are at work.
fn clear(folder: &Path) -> Result<(), DatapathError> {
    if let Some(root) = folder.ancestors().nth(2) {
        pins::mount_bpf(root)?;
    }
    pins::make(folder)?;
    for left in fs::read_dir(folder).map_err(pins::failed("list", folder))? {
        let left = left.map_err(pins::failed("list", folder))?.path();
        fs::remove_file(&left).map_err(pins::failed("remove", &left))?;
    }
    Ok(())
}

fn pin(link: FdLink, path: &Path) -> Result<PinnedLink, DatapathError> {
    link.pin(path)
        .map_err(|error| pins::failed("pin a link at", path)(io::Error::other(error)).into())
}

fn open_cgroup(path: &Path) -> Result<File, DatapathError> {
    let failed = |source| DatapathError::Cgroup { path: path.to_owned(), source };
    // Every cgroup v2 has this file (cgroups(7)).
    fs::metadata(path.join("cgroup.procs")).map_err(failed)?;
    File::open(path).map_err(failed)
}

/// Nanoseconds of CLOCK_MONOTONIC, which is the clock of `bpf_ktime_get_ns`.
fn now() -> u64 {
    // It cannot fail for this clock (clock_gettime(2)).
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| nanoseconds(time.into()))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn key((address, length): (IpAddr, u8)) -> Key<Address> {
    // Bits of an IPv4 address before those that differ (RFC 4291 section 2.5.5.2).
    let mapped = if address.is_ipv4() { 96 } else { 0 };
    Key::new(mapped + u32::from(length), Address::from(address))
}

fn found<V>(read: Result<V, aya::maps::MapError>) -> Result<Option<V>, aya::maps::MapError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A program is loaded when it is attached first.
fn once(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(error),
    }
}

fn refused(
    operation: &'static str,
    program: &'static str,
) -> impl Fn(ProgramError) -> DatapathError {
    move |source| DatapathError::Program { operation, program, source: source.into() }
}
