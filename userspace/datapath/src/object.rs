//! The kernel objects that are part of this program.

use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nightgate_abi::{VERSION, VERSION_SECTION, maps};
use nightgate_ruleset::FlowTables;
use object::{Object, ObjectSection, ObjectSymbol};

use crate::{error::DatapathError, pins::Pins};

/// Empty if the program was built without it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nightgate-ebpf"));

/// What tells one object from another: the first 8 bytes of its SHA-256, in hexadecimal.
pub(crate) const DIGEST: &str = env!("NIGHTGATE_EBPF_DIGEST");

/// The tunneler's, likewise.
static TUNNEL: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nightgate-tunnel-ebpf"));

/// Creates the maps of the tunneler's object and reads its programs.
pub(crate) fn load_tunnel() -> Result<Ebpf, DatapathError> {
    check(TUNNEL)?;
    EbpfLoader::new().load(TUNNEL).map_err(|source| DatapathError::Load { source: source.into() })
}

/// Creates the maps of the object and reads its programs.
/// With pins, maps are pinned, and those that are there are used.
pub(crate) fn load(pins: Option<&Pins>, tables: FlowTables) -> Result<Ebpf, DatapathError> {
    check(OBJECT)?;
    let names = map_names()?;
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(maps::FLOWS, tables.established);
    loader.map_max_entries(maps::OPENING, tables.half_open);
    if let Some(pins) = pins {
        for name in names.iter().filter(|name| !SCRATCH.contains(&name.as_str())) {
            loader.map_pin_path(name, pins.maps(VERSION).join(name));
        }
    }
    loader.load(OBJECT).map_err(|source| DatapathError::Load { source: source.into() })
}

/// Maps that hold nothing between packets, or between fragments of one; their form is the programs' own affair.
pub(crate) const SCRATCH: [&str; 3] = ["WORK", "FRAGMENTED", "FRAGMENTED_REFUSED"];
/// ELF section of the maps.
const MAPS_SECTION: &str = ".maps";

/// Names of the maps that the object declares.
pub(crate) fn map_names() -> Result<Vec<String>, DatapathError> {
    let unreadable = |source| DatapathError::Object { section: MAPS_SECTION, source };
    let file = object::File::parse(OBJECT).map_err(unreadable)?;
    let section = file
        .section_by_name(MAPS_SECTION)
        .ok_or(DatapathError::Missing { object: MAPS_SECTION })?
        .index();
    let symbols = file.symbols().filter(|symbol| symbol.section_index() == Some(section));
    symbols
        .filter(|symbol| symbol.kind() == object::SymbolKind::Data)
        .map(|symbol| symbol.name().map(str::to_owned).map_err(unreadable))
        .collect()
}

/// Refuses a stub, and an object of another ABI version.
fn check(bytes: &[u8]) -> Result<(), DatapathError> {
    if bytes.is_empty() {
        return Err(DatapathError::Stub);
    }
    let unreadable = |source| DatapathError::Object { section: VERSION_SECTION, source };
    let file = object::File::parse(bytes).map_err(unreadable)?;
    let section = file
        .section_by_name(VERSION_SECTION)
        .ok_or(DatapathError::Missing { object: VERSION_SECTION })?;
    let data = section.data().map_err(unreadable)?;
    let version = data.first_chunk().ok_or(DatapathError::Missing { object: VERSION_SECTION })?;
    match u32::from_le_bytes(*version) {
        VERSION => Ok(()),
        found => Err(DatapathError::Version { found, expected: VERSION }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_says_how_to_build_the_object() {
        let error = check(&[]).unwrap_err();
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(check(&[0; 64]), Err(DatapathError::Object { .. })));
    }
}
