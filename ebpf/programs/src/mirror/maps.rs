//! The mirror's maps; their names are those of [`nightgate_abi::mirror`] and [`nightgate_abi::maps`].

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, PerCpuArray},
    macros::btf_map,
};
use nightgate_abi::{
    Bucket, Counter,
    mirror::{self, MirrorSensor, MirrorSession},
};

#[btf_map]
pub(crate) static MIRROR_COUNTERS: PerCpuArray<Counter, { mirror::COUNTERS as usize }> =
    PerCpuArray::new();

/// Not preallocated: an entry that is replaced or removed stays whole until the programs that read it are done, so that
/// no copy goes to a mixture of two sensors.
#[btf_map]
pub(crate) static MIRROR_SESSIONS: HashMap<
    u32,
    MirrorSession,
    { mirror::NUMBERS as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// Likewise.
#[btf_map]
pub(crate) static MIRROR_SENSORS: HashMap<
    u32,
    MirrorSensor,
    { mirror::NUMBERS as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
pub(crate) static MIRROR_BUCKETS: Array<Bucket, { mirror::NUMBERS as usize + 1 }> = Array::new();

#[btf_map]
pub(crate) static MIRROR_DEVICE: Array<u32, 1> = Array::new();

#[btf_map]
pub(crate) static MIRROR_SEQUENCES: Array<u64, { mirror::NUMBERS as usize + 1 }> = Array::new();

#[btf_map]
pub(crate) static MIRROR_SENSOR_COUNTERS: PerCpuArray<Counter, { mirror::NUMBERS as usize + 1 }> =
    PerCpuArray::new();
