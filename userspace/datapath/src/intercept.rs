//! Intercepted destinations, and the listener they are handed to.

use std::{collections::BTreeMap, net::SocketAddr};

use nightgate_abi::{Address, Family, Intercept, InterceptKey, Listener, maps};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

/// What is in the kernel's table.
#[derive(Debug, Default)]
pub(crate) struct Intercepts(BTreeMap<InterceptKey, Intercept>);

impl Intercepts {
    /// Reads the kernel's table.
    pub(crate) fn read(ebpf: &aya::Ebpf) -> Result<Self, DatapathError> {
        map::hash::<InterceptKey, Intercept>(ebpf, maps::INTERCEPTS)?
            .iter()
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(failed("read", maps::INTERCEPTS))
    }
}

impl Datapath {
    /// Replaces all intercepted destinations. Only what differs is written; if anything does, flows are
    /// judged again on their next packet.
    ///
    /// # Errors
    /// The kernel refuses, for instance because the table is full; part of the change may have been made.
    pub fn set_intercepts(
        &mut self,
        wanted: &BTreeMap<InterceptKey, Intercept>,
    ) -> Result<(), DatapathError> {
        let current = &self.intercepts.0;
        let gone: Vec<_> =
            current.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let new: Vec<_> = wanted
            .iter()
            .filter(|(key, value)| current.get(key) != Some(value))
            .map(|(key, value)| (*key, *value))
            .collect();
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        let written = gone
            .iter()
            .try_for_each(|key| self.erase_intercept(key))
            .and_then(|()| new.into_iter().try_for_each(|(key, v)| self.write_intercept(key, v)));
        // What has been written counts for running flows too, even if the rest has failed.
        self.judge_flows_again()?;
        written
    }

    /// Intercepts a destination.
    ///
    /// # Errors
    /// The kernel refuses, for instance because the table is full.
    pub fn add_intercept(
        &mut self,
        key: InterceptKey,
        value: Intercept,
    ) -> Result<(), DatapathError> {
        self.write_intercept(key, value)?;
        self.judge_flows_again()
    }

    /// Stops intercepting a destination. One that is not intercepted is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_intercept(&mut self, key: &InterceptKey) -> Result<(), DatapathError> {
        if !self.intercepts.0.contains_key(key) {
            return Ok(());
        }
        self.erase_intercept(key)?;
        self.judge_flows_again()
    }

    /// Intercepted destinations.
    pub fn intercepts(&self) -> &BTreeMap<InterceptKey, Intercept> {
        &self.intercepts.0
    }

    /// Says where the transparent TCP socket for intercepted connections of the address's family listens.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_listener(&mut self, address: SocketAddr) -> Result<(), DatapathError> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let listener = Listener::new(Address::from(address.ip()), address.port());
        self.write_listener(family, listener)
    }

    /// Says that there is no listener for a family, so that its intercepted connections are refused.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear_listener(&mut self, family: Family) -> Result<(), DatapathError> {
        self.write_listener(family, Listener::NONE)
    }

    fn write_listener(&mut self, family: Family, listener: Listener) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::LISTENERS)?
            .set(family.index(), listener, 0)
            .map_err(failed("write", maps::LISTENERS))
    }

    fn write_intercept(
        &mut self,
        key: InterceptKey,
        value: Intercept,
    ) -> Result<(), DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::INTERCEPTS)?
            .insert(key, value, 0)
            .map_err(failed("write", maps::INTERCEPTS))?;
        self.intercepts.0.insert(key, value);
        Ok(())
    }

    fn erase_intercept(&mut self, key: &InterceptKey) -> Result<(), DatapathError> {
        map::hash_mut::<InterceptKey, Intercept>(&mut self.ebpf, maps::INTERCEPTS)?
            .remove(key)
            .map_err(failed("write", maps::INTERCEPTS))?;
        self.intercepts.0.remove(key);
        Ok(())
    }
}
