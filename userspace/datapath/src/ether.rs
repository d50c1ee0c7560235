//! Protocols beside IP and ARP that zones let pass.

use nightgate_abi::{ZoneId, ether::EtherTypes, guard, limits, maps};
use nightgate_ruleset::MapImage;

use crate::{
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

impl Datapath {
    /// Writes what each zone lets pass for a bank that is not in force.
    pub(crate) fn stage_ether_types(
        &mut self,
        image: &MapImage,
        bank: u32,
    ) -> Result<(), DatapathError> {
        let mut map = map::array_mut::<EtherTypes>(&mut self.ebpf, maps::ETHER_TYPES)?;
        for zone in (0..limits::ZONES).filter_map(|zone| ZoneId::new(u8::try_from(zone).ok()?)) {
            let found = image.pass_through().iter().find(|(candidate, _)| *candidate == zone);
            let types = found.map_or_else(EtherTypes::default, |(_, types)| *types);
            map.set(guard::index(bank, zone), types, 0)
                .map_err(failed("write", maps::ETHER_TYPES))?;
        }
        Ok(())
    }
}
