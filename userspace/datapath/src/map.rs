//! Finding and using maps, with errors that name them.

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use nightgate_abi::Counter;

use crate::error::DatapathError;

/// Wraps an error of an operation on a map.
pub(crate) fn failed<E: Into<MapError>>(
    operation: &'static str,
    map: &'static str,
) -> impl FnOnce(E) -> DatapathError {
    move |source| DatapathError::Map { operation, map, source: Box::new(source.into()) }
}

/// An array map to write.
pub(crate) fn array_mut<'a, V: Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<Array<&'a mut MapData, V>, DatapathError> {
    Array::try_from(map_mut(ebpf, name)?).map_err(failed("open", name))
}

/// A hash map to read.
pub(crate) fn hash<'a, K: Pod, V: Pod>(
    ebpf: &'a Ebpf,
    name: &'static str,
) -> Result<HashMap<&'a MapData, K, V>, DatapathError> {
    HashMap::try_from(map(ebpf, name)?).map_err(failed("open", name))
}

/// A hash map to write.
pub(crate) fn hash_mut<'a, K: Pod, V: Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<HashMap<&'a mut MapData, K, V>, DatapathError> {
    HashMap::try_from(map_mut(ebpf, name)?).map_err(failed("open", name))
}

/// Whether a removal found an entry. What has gone by itself is fine as well.
pub(crate) fn removed(removal: Result<(), MapError>) -> Result<bool, MapError> {
    match removal {
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) =>
        {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// Counters of a per-CPU array, each summed over the CPUs.
pub(crate) fn counters(
    ebpf: &Ebpf,
    name: &'static str,
    indices: impl Iterator<Item = u32>,
) -> Result<Vec<Counter>, DatapathError> {
    let counters: PerCpuArray<_, Counter> =
        PerCpuArray::try_from(map(ebpf, name)?).map_err(failed("open", name))?;
    indices
        .map(|index| {
            let values = counters.get(&index, 0).map_err(failed("read", name))?;
            Ok(sum(&values))
        })
        .collect()
}

/// What all CPUs counted together.
pub(crate) fn sum(values: &[Counter]) -> Counter {
    values.iter().fold(Counter::default(), |mut sum, value| {
        sum += *value;
        sum
    })
}

/// How many CPUs there can be, as per-CPU data are laid out for them.
pub(crate) fn cpus() -> Result<u32, DatapathError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| DatapathError::Cpus { source })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

pub(crate) fn map<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Map, DatapathError> {
    ebpf.map(name).ok_or(DatapathError::Missing { object: name })
}

pub(crate) fn map_mut<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Map, DatapathError> {
    ebpf.map_mut(name).ok_or(DatapathError::Missing { object: name })
}
