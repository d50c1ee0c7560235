//! The kernel object that is part of this program.

use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nightgate_abi::{VERSION, VERSION_SECTION};
use object::{Object, ObjectSection};

use crate::error::DatapathError;

/// Empty if the program was built without it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nightgate-ebpf"));

/// Creates the maps of the object and reads its programs.
pub(crate) fn load() -> Result<Ebpf, DatapathError> {
    check(OBJECT)?;
    EbpfLoader::new().load(OBJECT).map_err(|source| DatapathError::Load { source: source.into() })
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
