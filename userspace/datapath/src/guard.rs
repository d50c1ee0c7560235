//! XDP on interfaces of zones that guard themselves: blocked sources, floods.

use std::{fs, io};

use aya::{
    Ebpf,
    maps::{LpmTrie, lpm_trie::Key},
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};
use nightgate_abi::{
    ZoneId,
    guard::{self, Guard, GuardPrefix},
    limits, maps,
};
use nightgate_ruleset::{GuardImage, MapImage};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    link::{Link, is, is_defunct},
    map::{self, failed},
    pins::{self, Pins},
};

/// Name of the program.
pub(crate) const XDP_GUARD: &str = "xdp_guard";
/// What the link's pin is called.
pub(crate) const ROLE: &str = "guard";

/// Where the kernel runs a guard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GuardMode {
    /// In the interface's driver, before the packet has a buffer of its own.
    Native,
    /// Behind it, for drivers without XDP.
    Generic,
    /// As an earlier process has left it.
    Inherited,
}

impl GuardMode {
    /// The word that operators see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Inherited => "inherited",
        }
    }
}

/// A guard on an interface.
#[derive(Debug)]
pub(crate) struct Attachment {
    link: Link,
    mode: GuardMode,
}

impl Attachment {
    pub(crate) fn detach(self) -> Result<(), DatapathError> {
        self.link.detach()
    }
}

impl Datapath {
    /// The interfaces with a guard, by name, and where the kernel runs it.
    pub fn guards(&self) -> impl Iterator<Item = (&str, GuardMode)> {
        self.attached.values().filter_map(|attached| {
            let guard = attached.guard.as_ref()?;
            Some((attached.name.as_str(), guard.mode))
        })
    }

    /// Writes the guards of all zones for a bank that is not in force.
    pub(crate) fn stage_guards(
        &mut self,
        image: &MapImage,
        bank: u32,
    ) -> Result<(), DatapathError> {
        let mut guards = map::array_mut::<Guard>(&mut self.ebpf, maps::GUARDS)?;
        for zone in (0..limits::ZONES).filter_map(|zone| ZoneId::new(u8::try_from(zone).ok()?)) {
            let guard = image.guards().iter().find(|guard| guard.zone == zone);
            let guard = guard.map_or_else(Guard::default, |guard| guard.guard);
            guards
                .set(guard::index(bank, zone), guard, 0)
                .map_err(failed("write", maps::GUARDS))?;
        }
        self.stage_prefixes(image.guards(), bank)
    }

    fn stage_prefixes(&mut self, guards: &[GuardImage], bank: u32) -> Result<(), DatapathError> {
        let name = maps::GUARD_PREFIXES;
        let mut prefixes: LpmTrie<_, GuardPrefix, u8> =
            LpmTrie::try_from(map::map_mut(&mut self.ebpf, name)?).map_err(failed("open", name))?;
        let known = prefixes.keys().collect::<Result<Vec<_>, _>>().map_err(failed("read", name))?;
        for key in known.iter().filter(|key| key.data().bank() == bank) {
            map::removed(prefixes.remove(key)).map_err(failed("write", name))?;
        }
        for GuardImage { zone, prefixes: entries, .. } in guards {
            for (address, length, list) in entries {
                let data = GuardPrefix::new(bank, *zone, *address);
                prefixes
                    .insert(&Key::new(GuardPrefix::OFFSET + length, data), list, 0)
                    .map_err(failed("write", name))?;
            }
        }
        Ok(())
    }

    /// Attaches guards to interfaces whose zones ask for one, and takes the others off.
    pub(crate) fn place_guards(&mut self) -> Result<(), DatapathError> {
        let wanted: Vec<(IfIndex, bool)> = self
            .attached
            .iter()
            .map(|(index, attached)| (*index, self.guarded.contains(&attached.zone)))
            .collect();
        for (index, is_wanted) in wanted {
            let Some(attached) = self.attached.get_mut(&index) else { continue };
            if is_wanted && attached.guard.is_none() {
                let guard = attach(&mut self.ebpf, index, self.pins.as_ref())?;
                let mode = guard.mode.as_str();
                attached.guard = Some(guard);
                tracing::info!(interface = attached.name, mode, "attached guard");
            } else if !is_wanted && let Some(guard) = attached.guard.take() {
                guard.detach()?;
                tracing::info!(interface = attached.name, "detached guard");
            }
        }
        Ok(())
    }
}

/// Puts the program on an interface: in its driver if that can, else behind it. If a pinned link is there already,
/// its program is replaced.
fn attach(
    ebpf: &mut Ebpf,
    index: IfIndex,
    pins: Option<&Pins>,
) -> Result<Attachment, DatapathError> {
    let program = program(ebpf)?;
    let refused = |source: ProgramError| DatapathError::Program {
        operation: "attach",
        program: XDP_GUARD,
        source: source.into(),
    };
    let Some(pins) = pins else {
        let (link, mode) = attach_anew(program, index).map_err(refused)?;
        return Ok(Attachment { link: Link::held(link), mode });
    };
    let path = pins.link(index, ROLE);
    match PinnedLink::from_pin(&path) {
        Ok(old) => match replace(program, old) {
            Ok(()) => {
                let link = PinnedLink::from_pin(&path)
                    .map_err(|error| refused(ProgramError::IOError(io::Error::other(error))))?;
                return Ok(Attachment { link: Link::Pinned(link), mode: GuardMode::Inherited });
            }
            Err(error) if is_defunct(&error) => {
                fs::remove_file(&path).map_err(pins::failed("remove", &path))?;
            }
            Err(error) => return Err(refused(error)),
        },
        Err(LinkError::SyscallError(error)) if is(&error, nix::libc::ENOENT) => {}
        Err(error) => return Err(refused(ProgramError::IOError(io::Error::other(error)))),
    }
    let (link, mode) = attach_anew(program, index).map_err(refused)?;
    let link = link
        .pin(&path)
        .map_err(|error| pins::failed("pin a link at", &path)(io::Error::other(error)))?;
    Ok(Attachment { link: Link::Pinned(link), mode })
}

fn attach_anew(program: &mut Xdp, index: IfIndex) -> Result<(FdLink, GuardMode), ProgramError> {
    let (id, mode) = match program.attach_to_if_index(index.get(), XdpMode::Driver) {
        Ok(id) => (id, GuardMode::Native),
        Err(_no_native_xdp) => {
            (program.attach_to_if_index(index.get(), XdpMode::Skb)?, GuardMode::Generic)
        }
    };
    let link = FdLink::try_from(program.take_link(id)?);
    Ok((link.map_err(|error| ProgramError::IOError(io::Error::other(error)))?, mode))
}

fn replace(program: &mut Xdp, old: PinnedLink) -> Result<(), ProgramError> {
    let unusable = |error| ProgramError::IOError(io::Error::other(error));
    let link = XdpLink::try_from(FdLink::from(old)).map_err(unusable)?;
    let id = program.attach_to_link(link)?;
    // The pin keeps it.
    FdLink::try_from(program.take_link(id)?).map(drop).map_err(unusable)
}

/// The program, loaded when it is needed first.
fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    let failed = |operation| {
        move |source: ProgramError| DatapathError::Program {
            operation,
            program: XDP_GUARD,
            source: source.into(),
        }
    };
    let program =
        ebpf.program_mut(XDP_GUARD).ok_or(DatapathError::Missing { object: XDP_GUARD })?;
    let program: &mut Xdp = program.try_into().map_err(failed("open"))?;
    if program.fd().is_err() {
        program.load().map_err(failed("load"))?;
    }
    Ok(program)
}
