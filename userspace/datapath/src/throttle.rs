//! Flows and addresses that are limited for a while.

use std::net::{IpAddr, SocketAddr};

use aya::maps::MapError;
use nightgate_abi::{Address, Features, FlowKey, Throttle, limits::THROTTLED, maps};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Throttled {
    /// All packets from and to an address.
    Address(IpAddr),
    /// Those of a flow: IP protocol and both ends.
    Flow(u8, [SocketAddr; 2]),
}

impl Throttled {
    fn key(self) -> FlowKey {
        let end = |end: SocketAddr| (Address::from(end.ip().to_canonical()), end.port());
        match self {
            Self::Address(address) => FlowKey::of_address(address.to_canonical().into()),
            Self::Flow(protocol, [a, b]) => FlowKey::new(protocol, end(a), end(b)).0,
        }
    }

    fn of_key(key: &FlowKey) -> Self {
        let end = |address: Address, port| SocketAddr::new(address.to_ip(), port);
        match key.as_address() {
            Some(address) => Self::Address(address.to_ip()),
            None => {
                Self::Flow(key.protocol, [end(key.low, key.low_port), end(key.high, key.high_port)])
            }
        }
    }
}

impl Datapath {
    /// Lets the packets of a flow or address pass no faster than that, from the next one on. Another limit of the same
    /// flow or address is replaced.
    ///
    /// # Errors
    /// As many flows and addresses as there may be are limited, or the kernel refuses.
    pub fn throttle(&mut self, what: Throttled, throttle: Throttle) -> Result<(), DatapathError> {
        match self.throttle_map()?.insert(what.key(), throttle, 0) {
            Ok(()) => {}
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) =>
            {
                return Err(DatapathError::ThrottlesFull { limit: THROTTLED });
            }
            Err(source) => return Err(failed("write", maps::THROTTLED)(source)),
        }
        self.always = self.always.with(Features::THROTTLE);
        self.refresh()?;
        self.write_features(self.active.features().with(Features::THROTTLE))
    }

    /// Ends the limit of a flow or address; gives whether it had one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release_throttle(&mut self, what: Throttled) -> Result<bool, DatapathError> {
        let removed = map::removed(self.throttle_map()?.remove(&what.key()));
        let removed = removed.map_err(failed("write", maps::THROTTLED))?;
        if removed && self.throttled()?.is_empty() {
            self.always = self.always.without(Features::THROTTLE);
            self.write_features(self.active.features().without(Features::THROTTLE))?;
        }
        Ok(removed)
    }

    /// What is limited. Limits whose time is over are among them until they are released.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn throttled(&self) -> Result<Vec<(Throttled, Throttle)>, DatapathError> {
        let entries = map::hash::<FlowKey, Throttle>(&self.ebpf, maps::THROTTLED)?;
        entries
            .iter()
            .map(|entry| entry.map(|(key, throttle)| (Throttled::of_key(&key), throttle)))
            .collect::<Result<_, _>>()
            .map_err(failed("read", maps::THROTTLED))
    }

    /// Notices what an earlier process has limited.
    pub(crate) fn take_over_throttles(&mut self) -> Result<(), DatapathError> {
        if !self.throttled()?.is_empty() {
            self.always = self.always.with(Features::THROTTLE);
        }
        Ok(())
    }

    fn throttle_map(
        &mut self,
    ) -> Result<aya::maps::HashMap<&mut aya::maps::MapData, FlowKey, Throttle>, DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::THROTTLED)
    }
}
