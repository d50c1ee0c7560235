//! What the maps take of the kernel's memory, and the programs of its verifier's patience.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{ArrayOfMaps, Map, MapData};

use crate::{datapath::Datapath, error::DatapathError, map::failed};

impl Datapath {
    /// Bytes of kernel memory that each map takes, by name, as the kernel says (Linux 6.4); those of both banks
    /// are with the map of the banks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn memory(&self) -> Result<Vec<(String, u64)>, DatapathError> {
        let mut memory = Vec::new();
        for (name, map) in self.ebpf.maps() {
            let mut bytes = data(map).map_or(Ok(0), bytes)?;
            if let Map::ArrayOfMaps(_) = map {
                bytes += banks(map)?;
            }
            memory.push((name.to_owned(), bytes));
        }
        Ok(memory)
    }

    /// Instructions that the kernel's verifier has looked at for each loaded program, by name (Linux 5.16). It gives up
    /// after a million (`BPF_COMPLEXITY_LIMIT_INSNS`, linux/bpf.h).
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        let programs = self.ebpf.programs();
        let counts = programs.filter_map(|(name, program)| {
            let count = program.info().ok()?.verified_instruction_count()?;
            Some((name.to_owned(), count))
        });
        counts.collect()
    }
}

/// What the inner maps of both banks take.
fn banks(map: &Map) -> Result<u64, DatapathError> {
    const NAME: &str = "of banks";
    let banks: ArrayOfMaps<_, MapData> =
        ArrayOfMaps::try_from(map).map_err(failed("open", NAME))?;
    let mut sum = 0;
    for bank in 0..2 {
        match banks.get(&bank, 0) {
            Ok(inner) => sum += bytes(&inner)?,
            Err(aya::maps::MapError::KeyNotFound) => {}
            Err(source) => return Err(failed("read", NAME)(source)),
        }
    }
    Ok(sum)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "aya's kinds of maps; ours are these")]
fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// What `/proc/self/fdinfo` says of a map.
fn bytes(map: &MapData) -> Result<u64, DatapathError> {
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&path)
        .map_err(|source| DatapathError::Memory { path: path.clone(), source })?;
    let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(memory.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0))
}
