//! Intercepted destinations, and the listeners that they are handed to.

use std::{collections::BTreeMap, net::SocketAddr};

use aya::{
    Pod,
    maps::{Array, ArrayOfMaps, MapData},
};
use nightgate_abi::{
    Address, Family, Intercept, InterceptTable, Listener,
    listener::{self, Transport},
    maps,
};
use nightgate_ruleset::InterceptImage;

use crate::{
    bank::OF_ANY_SIZE,
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

impl Datapath {
    /// Replaces all intercepted destinations at once: every packet meets the old table or the new. If anything
    /// differs, flows are judged again on their next packet; those that go on past the overlay stay there.
    ///
    /// # Errors
    /// The kernel refuses; the table stays as it was.
    pub fn set_intercepts(&mut self, wanted: &InterceptImage) -> Result<(), DatapathError> {
        if self.intercepts.as_ref() == Some(wanted) {
            return Ok(());
        }
        let mut table: Array<_, InterceptTable> =
            map::array_mut(&mut self.ebpf, maps::INTERCEPT_TABLE)?;
        let current: InterceptTable =
            table.get(&0, 0).map_err(failed("read", maps::INTERCEPT_TABLE))?;
        let bank = current.bank & 1 ^ 1;
        self.stage_elements(maps::INTERCEPT_PORTS, bank, wanted.ports())?;
        self.stage_elements(maps::INTERCEPT_RANGES, bank, wanted.ranges())?;
        let ranges = u32::try_from(wanted.ranges().len()).unwrap_or(u32::MAX);
        table = map::array_mut(&mut self.ebpf, maps::INTERCEPT_TABLE)?;
        table
            .set(0, InterceptTable { bank, ranges }, 0)
            .map_err(failed("write", maps::INTERCEPT_TABLE))?;
        self.intercepts = Some(wanted.clone());
        self.judge_flows_again()
    }

    /// Says what connections to servers of hosted services are, by the number that their packets' mark has
    /// (`intercept::hosted_mark`). If anything differs, flows are judged again on their next packet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_hosted(&mut self, wanted: &BTreeMap<u16, Intercept>) -> Result<(), DatapathError> {
        if self.hosted.as_ref() == Some(wanted) {
            return Ok(());
        }
        // Until all of it is written, nobody knows what is there.
        self.hosted = None;
        let mut entries = map::hash_mut::<u32, Intercept>(&mut self.ebpf, maps::HOSTED)?;
        for (number, value) in wanted {
            let written = entries.insert(u32::from(*number), value, 0);
            written.map_err(failed("write", maps::HOSTED))?;
        }
        let known: Vec<u32> =
            entries.keys().collect::<Result<_, _>>().map_err(failed("read", maps::HOSTED))?;
        let is_wanted = |key: u32| u16::try_from(key).is_ok_and(|key| wanted.contains_key(&key));
        for key in known.into_iter().filter(|key| !is_wanted(*key)) {
            map::removed(entries.remove(&key)).map_err(failed("write", maps::HOSTED))?;
        }
        self.hosted = Some(wanted.clone());
        self.judge_flows_again()
    }

    /// Says where the transparent socket for intercepted packets of a transport and the address's family is bound.
    pub(crate) fn set_listener(
        &mut self,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<(), DatapathError> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let listener = Listener::new(Address::from(address.ip()), address.port());
        self.write_listener(transport, family, listener)
    }

    /// Says that there is no listener for a transport and family, so that its intercepted packets are refused.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear_listener(
        &mut self,
        transport: Transport,
        family: Family,
    ) -> Result<(), DatapathError> {
        self.write_listener(transport, family, Listener::NONE)
    }

    fn write_listener(
        &mut self,
        transport: Transport,
        family: Family,
        listener: Listener,
    ) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::LISTENERS)?
            .set(listener::index(transport, family), listener, 0)
            .map_err(failed("write", maps::LISTENERS))
    }

    /// Replaces the inner map of a bank by a new one. The kernel waits until no program reads the old one.
    fn stage_elements<T: Pod>(
        &mut self,
        name: &'static str,
        bank: u32,
        elements: &[T],
    ) -> Result<(), DatapathError> {
        // No array is empty.
        let size = u32::try_from(elements.len()).unwrap_or(u32::MAX).max(1);
        let mut inner =
            Array::<MapData, T>::create(size, OF_ANY_SIZE).map_err(failed("create", name))?;
        for (index, element) in (0..).zip(elements) {
            inner.set(index, *element, 0).map_err(failed("write", name))?;
        }
        let mut banks: ArrayOfMaps<_, Array<MapData, T>> =
            ArrayOfMaps::try_from(map::map_mut(&mut self.ebpf, name)?)
                .map_err(failed("open", name))?;
        banks.set(bank, &inner, 0).map_err(failed("write", name))
    }
}
