//! Packets to intercepted destinations that get no socket before the kernel looks one up: it asks a program of the network
//! namespace whose they are.

use std::{fs, io, net::SocketAddr, os::fd::BorrowedFd};

use aya::{
    maps::SockMap,
    programs::{SkLookup, links::FdLink},
};
use nightgate_abi::{
    Address,
    listener::{self, Transport},
    maps,
};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    link::Link,
    map::{self, failed},
    pins,
};

/// Name of the program.
const SK_INTERCEPT: &str = "sk_intercept";
/// The calling thread's network namespace.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

impl Datapath {
    /// Says which transparent socket takes intercepted packets of a transport and the address's family, and where it is bound.
    /// Datagrams that come in fragments, and connections from a port that the client has used a moment ago, reach it
    /// in no other way than by itself; once it has been closed, they are refused.
    ///
    /// # Errors
    /// It is neither a listening TCP socket nor a bound UDP socket, or the kernel refuses.
    pub fn set_listening_socket(
        &mut self,
        transport: Transport,
        address: SocketAddr,
        socket: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        let name = maps::LISTENING_SOCKETS;
        let mut sockets =
            SockMap::try_from(map::map_mut(&mut self.ebpf, name)?).map_err(failed("open", name))?;
        let family = Address::from(address.ip()).family();
        sockets
            .set(listener::index(transport, family), &socket, 0)
            .map_err(failed("write", name))?;
        if self.lookup_link.is_none() {
            self.lookup_link = Some(self.attach_lookup()?);
        }
        self.set_listener(transport, address)
    }

    /// Attaches the program to the network namespace. One of an earlier process goes after that, so that there is always
    /// one.
    fn attach_lookup(&mut self) -> Result<Link, DatapathError> {
        let missing = DatapathError::Missing { object: SK_INTERCEPT };
        let program = self.ebpf.program_mut(SK_INTERCEPT).ok_or(missing)?;
        let mut attach = || {
            let program: &mut SkLookup = program.try_into()?;
            program.load()?;
            let id = program.attach(fs::File::open(NAMESPACE)?)?;
            program.take_link(id)
        };
        let link = attach().map_err(|source| DatapathError::Program {
            operation: "attach",
            program: SK_INTERCEPT,
            source: source.into(),
        })?;
        let link = FdLink::from(link);
        let Some(pins) = &self.pins else {
            return Ok(Link::held(link));
        };
        let path = pins.lookup();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(pins::failed("remove", &path)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
        let pinned = link.pin(&path);
        let pinned = pinned
            .map_err(|error| pins::failed("pin a link at", &path)(io::Error::other(error)))?;
        Ok(Link::Pinned(pinned))
    }
}
