//! The maps; their names are those of [`nightgate_abi::tunnel::maps`].

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap},
    macros::btf_map,
};
use nightgate_abi::{
    Address, Intercept, limits,
    tunnel::{self, Copied, Doors, Origin, OriginKey, Source, Taken, TunnelSettings},
};

use crate::parts::PartKey;

#[btf_map]
pub(crate) static TUNNEL_SETTINGS: Array<TunnelSettings, 1> = Array::new();

#[btf_map]
pub(crate) static TUNNEL_DESTS: LpmTrie<Address, Doors, { tunnel::DESTINATIONS }> = LpmTrie::new();

#[btf_map]
pub(crate) static TUNNEL_PORTS: HashMap<u32, u32, 64> = HashMap::new();

#[btf_map]
pub(crate) static TUNNEL_ORIGINS: LruHashMap<OriginKey, Origin, { tunnel::ORIGINS }> =
    LruHashMap::new();

#[btf_map]
pub(crate) static TUNNEL_SOURCES: LruHashMap<Source, u64, { tunnel::ORIGINS }> = LruHashMap::new();

#[btf_map]
pub(crate) static TUNNEL_TAKEN: LruHashMap<Taken, u32, { tunnel::ORIGINS }> = LruHashMap::new();

/// Entries are made by userspace alone, when services are mirrored.
#[btf_map]
pub(crate) static TUNNEL_MIRRORED: HashMap<
    u32,
    u32,
    { tunnel::DESTINATIONS },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
pub(crate) static TUNNEL_COPIED: LruHashMap<Taken, Copied, { tunnel::ORIGINS }> = LruHashMap::new();

/// Ends of packets that come in fragments. Userspace knows nothing of it.
#[btf_map]
pub(crate) static TUNNEL_PARTS: LruHashMap<PartKey, Taken, { limits::FRAGMENTED }> =
    LruHashMap::new();

/// Entries are made by userspace alone, when services are hosted and something is mirrored.
#[btf_map]
pub(crate) static TUNNEL_HOSTED: HashMap<
    u32,
    Intercept,
    { limits::HOSTED },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
