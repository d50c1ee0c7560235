//! Programs on interfaces.

use std::{fs, io};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, SchedClassifierLinkId},
    },
    sys::SyscallError,
};

use nightgate_abi::Hook;

use crate::{
    datapath::classifier,
    error::DatapathError,
    interface::IfIndex,
    pins::{Pins, failed},
};

/// A program on a side of an interface.
#[derive(Debug)]
pub(crate) enum Link {
    /// Detached when dropped.
    Held {
        /// Dropping it detaches.
        _link: FdLink,
    },
    /// Attached until its pin is removed.
    Pinned(PinnedLink),
}

/// What is attached where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) program: &'static str,
    pub(crate) interface: &'a str,
    pub(crate) index: IfIndex,
    pub(crate) hook: Hook,
    /// What the pin is called.
    pub(crate) role: &'static str,
}

impl Link {
    /// A link that is detached when dropped.
    pub(crate) fn held(link: FdLink) -> Self {
        Self::Held { _link: link }
    }

    /// Takes the program off the interface.
    pub(crate) fn detach(self) -> Result<(), DatapathError> {
        match self {
            Self::Held { .. } => Ok(()),
            Self::Pinned(link) => {
                link.unpin().map(drop).map_err(|source| DatapathError::Unpin { source })
            }
        }
    }
}

/// Puts a program on an interface, behind the programs that are there. If a pinned link is there already, its
/// program is replaced, so that no packet is without one.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    place: Place<'_>,
    pins: Option<&Pins>,
) -> Result<Link, DatapathError> {
    let program = classifier(ebpf, place.program)?;
    let refused = |source: ProgramError| DatapathError::Program {
        operation: "attach",
        program: place.program,
        source: source.into(),
    };
    let Some(pins) = pins else {
        let id = program.attach(place.interface, kind(place.hook)).map_err(refused)?;
        return Ok(Link::Held { _link: take(program, id).map_err(refused)? });
    };
    let path = pins.link(place.index, place.role);
    match PinnedLink::from_pin(&path) {
        Ok(old) => match replace(program, old) {
            Ok(()) => {
                let link = PinnedLink::from_pin(&path).map_err(|error| refused(unusable(error)))?;
                return Ok(Link::Pinned(link));
            }
            Err(error) if is_defunct(&error) => {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
            Err(error) => return Err(refused(error)),
        },
        Err(LinkError::SyscallError(error)) if is(&error, nix::libc::ENOENT) => {}
        Err(error) => return Err(refused(unusable(error))),
    }
    let id = program.attach(place.interface, kind(place.hook)).map_err(refused)?;
    let link = take(program, id).map_err(refused)?;
    let link =
        link.pin(&path).map_err(|error| failed("pin a link at", &path)(io::Error::other(error)))?;
    Ok(Link::Pinned(link))
}

/// Puts the program in the place of the link's.
fn replace(program: &mut SchedClassifier, old: PinnedLink) -> Result<(), ProgramError> {
    let link = SchedClassifierLink::try_from(FdLink::from(old)).map_err(unusable)?;
    let id = program.attach_to_link(link)?;
    take(program, id).map(drop)
}

pub(crate) fn take(
    program: &mut SchedClassifier,
    id: SchedClassifierLinkId,
) -> Result<FdLink, ProgramError> {
    FdLink::try_from(program.take_link(id)?).map_err(unusable)
}

pub(crate) fn unusable(error: LinkError) -> ProgramError {
    ProgramError::IOError(io::Error::other(error))
}

/// Whether the interface of a link is gone.
pub(crate) fn is_defunct(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if is(error, nix::libc::ENOLINK))
}

pub(crate) fn is(error: &SyscallError, errno: i32) -> bool {
    error.io_error.raw_os_error() == Some(errno)
}

fn kind(hook: Hook) -> TcAttachType {
    match hook {
        Hook::Ingress => TcAttachType::Ingress,
        Hook::Egress => TcAttachType::Egress,
    }
}
