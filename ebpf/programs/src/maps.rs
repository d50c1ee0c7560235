//! The maps; their names are those of [`nightgate_abi::maps`].

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC},
    btf_maps::{
        Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SockMap,
    },
    macros::btf_map,
};
use nightgate_abi::{
    Active, Address, Bucket, Counter, Fallback, Flow, FlowKey, Hits, Intercept, InterceptPorts,
    InterceptRange, InterceptTable, Interface, Listener, Reason, Settings, Slot, Throttle,
    counter::DropKey,
    ether::EtherTypes,
    event::{Event, LogKey, LogState, Trace},
    limit::LimitKey,
    limits,
    listener::LISTENERS as LISTENER_COUNT,
    vlan::VlanKey,
};

use crate::stage::{
    Work,
    fragment::{Known, PacketKey},
};

#[btf_map]
pub(crate) static ACTIVE: Array<Active, 1> = Array::new();

#[btf_map]
pub(crate) static FALLBACK: Array<Fallback, 1> = Array::new();

/// Flag of inner maps that may have any number of elements (Linux 5.10).
pub(crate) const OF_ANY_SIZE: usize = BPF_F_INNER_MAP as usize;

/// Flag of tables whose entries take memory when they are made.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub(crate) static BANKS: ArrayOfMaps<Array<Slot, 1, OF_ANY_SIZE>, 2> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static INTERFACES: HashMap<u32, Interface, { limits::INTERFACES }> = HashMap::new();

#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, { limits::FLOWS }> = LruHashMap::new();

#[btf_map]
pub(crate) static OPENING: LruHashMap<FlowKey, Flow, { limits::OPENING }> = LruHashMap::new();

#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 2> = Array::new();

#[btf_map]
pub(crate) static INTERCEPT_TABLE: Array<InterceptTable, 1> = Array::new();

#[btf_map]
pub(crate) static INTERCEPT_RANGES: ArrayOfMaps<Array<InterceptRange, 1, OF_ANY_SIZE>, 2> =
    ArrayOfMaps::new();

#[btf_map]
pub(crate) static INTERCEPT_PORTS: ArrayOfMaps<Array<InterceptPorts, 1, OF_ANY_SIZE>, 2> =
    ArrayOfMaps::new();

/// Entries are made by userspace alone, when services are hosted.
#[btf_map]
pub(crate) static HOSTED: HashMap<u32, Intercept, { limits::HOSTED }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static LISTENERS: Array<Listener, LISTENER_COUNT> = Array::new();

#[btf_map]
pub(crate) static LISTENING_SOCKETS: SockMap<LISTENER_COUNT> = SockMap::new();

#[btf_map]
pub(crate) static VLANS: HashMap<VlanKey, u32, { limits::VLANS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static ETHER_TYPES: Array<EtherTypes, { 2 * limits::ZONES }> = Array::new();

#[btf_map]
pub(crate) static RATES: LruHashMap<LimitKey, Bucket, { limits::LIMITED }> = LruHashMap::new();

/// Entries are made by userspace alone, when an alert asks for it.
#[btf_map]
pub(crate) static QUARANTINE: HashMap<Address, u64, { limits::QUARANTINED }, ON_DEMAND> =
    HashMap::new();

/// Likewise.
#[btf_map]
pub(crate) static THROTTLED: HashMap<FlowKey, Throttle, { limits::THROTTLED }, ON_DEMAND> =
    HashMap::new();

#[btf_map]
pub(crate) static CONNECTIONS: LruHashMap<LimitKey, u64, { limits::LIMITED }> = LruHashMap::new();

/// How many more answers to rejected packets each CPU may send.
#[btf_map]
pub(crate) static ANSWERS: PerCpuArray<Bucket, 1> = PerCpuArray::new();

#[btf_map]
pub(crate) static REASON_COUNTERS: PerCpuArray<Counter, { Reason::COUNT }> = PerCpuArray::new();

#[btf_map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, Counter, { limits::DROPS }, { ON_DEMAND }> =
    PerCpuHashMap::new();

#[btf_map]
pub(crate) static RULE_COUNTERS: ArrayOfMaps<Array<Hits, 1, OF_ANY_SIZE>, 2> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static LOG: RingBuf<Event, { limits::LOG_BYTES }> = RingBuf::new();

#[btf_map]
pub(crate) static LOG_STATES: LruHashMap<LogKey, LogState, { limits::LOG_STATES }> =
    LruHashMap::new();

#[btf_map]
pub(crate) static TRACE: Array<Trace, 1> = Array::new();

#[btf_map]
pub(crate) static TRACES: RingBuf<Event, { limits::TRACE_BYTES }> = RingBuf::new();

/// Packets that come in fragments, of which the first has been accepted.
#[btf_map]
pub(crate) static FRAGMENTED: LruHashMap<PacketKey, Known, { limits::FRAGMENTED }> =
    LruHashMap::new();

/// Likewise refused: in a table of their own, so that a flood of them pushes out no accepted ones.
#[btf_map]
pub(crate) static FRAGMENTED_REFUSED: LruHashMap<PacketKey, Known, { limits::FRAGMENTED_REFUSED }> =
    LruHashMap::new();

/// What the stages hand on; kernel programs have only 512 bytes of stack for all their functions.
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
