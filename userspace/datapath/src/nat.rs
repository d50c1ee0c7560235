//! Address translation: the addresses that masqueraded flows get, and the aliases of flows.

use std::net::{IpAddr, SocketAddr};

use nightgate_abi::{
    Family, Flow, FlowKey, Interface, maps,
    nat::{Guise, translated},
};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    map::{self, failed},
};

impl Datapath {
    /// Says which addresses masqueraded flows get that leave by an attached interface, at most one of each family.
    /// Flows that have another address keep it. The addresses stay when this process ends.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_addresses(
        &mut self,
        interface: IfIndex,
        addresses: &[IpAddr],
    ) -> Result<(), DatapathError> {
        let Some(known) = self.interface(interface)? else {
            return Ok(());
        };
        let mut next = Interface { addresses: Default::default(), ..known };
        for address in addresses {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            next.addresses[usize::from(family == Family::V6)] = (*address).into();
        }
        if next == known { Ok(()) } else { self.put_interface(interface, next) }
    }

    /// Ends the masqueraded flows with an address that its interface has no more, by `has`, and returns how many.
    /// Should they go on, they begin anew.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_masqueraded(
        &mut self,
        has: impl Fn(IfIndex, IpAddr) -> bool,
    ) -> Result<usize, DatapathError> {
        self.end_flows(|_, _, flow| {
            let translation = &flow.translation;
            translation.flags & translated::ORIGINATOR != 0
                && IfIndex::new(translation.ifindex)
                    .is_some_and(|interface| !has(interface, translation.guises[0].address.to_ip()))
        })
    }

    /// Removes flows with their aliases, and returns how many.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn end_flows(
        &mut self,
        mut is_over: impl FnMut(&Self, &FlowKey, &Flow) -> bool,
    ) -> Result<usize, DatapathError> {
        let mut over = Vec::new();
        self.each_flow(|key, flow| {
            if is_over(self, key, flow) {
                over.push((*key, *flow));
            }
        })?;
        let mut ended = 0;
        for (key, flow) in &over {
            // The flow first: without it, its aliases lead nowhere.
            ended += usize::from(self.forget(key)?);
            for alias in aliases(key, flow) {
                self.forget(&alias)?;
            }
        }
        Ok(ended)
    }

    /// Removes an entry from the flow tables, wherever it is, and says whether it was there.
    fn forget(&mut self, key: &FlowKey) -> Result<bool, DatapathError> {
        let mut was_there = false;
        for table in [maps::FLOWS, maps::OPENING] {
            let removal = map::hash_mut::<FlowKey, Flow>(&mut self.ebpf, table)?.remove(key);
            was_there |= map::removed(removal).map_err(failed("write", table))?;
        }
        Ok(was_there)
    }
}

/// Whom the ends of a flow appear as, the originator first; `None` for an end that appears as it is.
pub(crate) fn appearances(flow: &Flow) -> [Option<SocketAddr>; 2] {
    let [originator, responder] = flow.translation.guises;
    let shown = |flag, guise: Guise| {
        let address = SocketAddr::new(guise.address.to_ip(), guise.port);
        (flow.translation.flags & flag != 0).then_some(address)
    };
    [shown(translated::ORIGINATOR, originator), shown(translated::RESPONDER, responder)]
}

/// The keys of a flow's aliases.
fn aliases(key: &FlowKey, flow: &Flow) -> Vec<FlowKey> {
    let ends = [flow.originator(), flow.originator().other()];
    let guises = flow.translation.guises;
    [translated::ORIGINATOR, translated::RESPONDER]
        .into_iter()
        .zip(ends.into_iter().zip(guises))
        .filter(|(flag, _)| flow.translation.flags & flag != 0)
        .map(|(_, (end, guise))| key.with_end(end, guise.endpoint()).0)
        .collect()
}
