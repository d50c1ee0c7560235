//! The maps; their names are those of [`nightgate_abi::maps`].

use aya_ebpf::{
    bindings::BPF_F_INNER_MAP,
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use nightgate_abi::{
    Active, Counter, Flow, FlowKey, Intercept, InterceptKey, Interface, Listener, Reason, Slot,
    limits,
};

use crate::stage::Work;

#[btf_map]
pub(crate) static ACTIVE: Array<Active, 1> = Array::new();

/// Flag of inner maps that may have any number of elements (Linux 5.10).
pub(crate) const OF_ANY_SIZE: usize = BPF_F_INNER_MAP as usize;

#[btf_map]
pub(crate) static BANKS: ArrayOfMaps<Array<Slot, 1, OF_ANY_SIZE>, 2> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static INTERFACES: HashMap<u32, Interface, { limits::INTERFACES }> = HashMap::new();

#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, { limits::FLOWS }> = LruHashMap::new();

#[btf_map]
pub(crate) static INTERCEPTS: HashMap<InterceptKey, Intercept, { limits::INTERCEPTS }> =
    HashMap::new();

#[btf_map]
pub(crate) static LISTENERS: Array<Listener, 2> = Array::new();

#[btf_map]
pub(crate) static MIRROR_DEVICE: Array<u32, 1> = Array::new();

#[btf_map]
pub(crate) static REASON_COUNTERS: PerCpuArray<Counter, { Reason::COUNT }> = PerCpuArray::new();

#[btf_map]
pub(crate) static RULE_COUNTERS: PerCpuArray<Counter, { 2 * limits::RULES as usize }> =
    PerCpuArray::new();

/// What the stages hand on; kernel programs have only 512 bytes of stack for all their functions.
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
