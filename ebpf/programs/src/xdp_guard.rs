//! XDP on interfaces of zones that ask for it: blocked sources and floods are refused before anything else.

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    btf_maps::{Array, LpmTrie, LruHashMap, lpm_trie::Key},
    helpers::generated::{bpf_ktime_get_ns, bpf_xdp_get_buff_len},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use nightgate_abi::{
    Bucket, Rate, Reason,
    guard::{self, Flood, Guard, GuardPrefix, SourceKey, list},
    limits,
};
use nightgate_packet::{Frame, HEADERS_MAX, Packet, PacketMeta, parse, protocol};

use crate::{hook::Hook, maps, stage::report};

#[btf_map]
static GUARDS: Array<Guard, { 2 * limits::ZONES }> = Array::new();

#[btf_map]
static GUARD_PREFIXES: LpmTrie<GuardPrefix, u8, { 2 * limits::GUARD_PREFIXES }> = LpmTrie::new();

#[btf_map]
static SOURCES: LruHashMap<SourceKey, Bucket, { limits::SOURCES }> = LruHashMap::new();

#[xdp]
pub(crate) fn xdp_guard(ctx: XdpContext) -> u32 {
    match judge(&ctx) {
        Ok(()) => XDP_PASS,
        Err(reason) => {
            report::count_refused(ifindex(&ctx), Hook::Ingress, reason, length(&ctx));
            XDP_DROP
        }
    }
}

/// Refuses what the zone guards itself against. All else is left to the programs behind this one, also what is
/// malformed or has no rules yet.
#[inline(always)]
fn judge(ctx: &XdpContext) -> Result<(), Reason> {
    let Some(active) = maps::ACTIVE.get(0) else { return Ok(()) };
    let (bank, ifindex) = (active.bank(), ifindex(ctx));
    // SAFETY: the reference is read at once; userspace replaces whole values only.
    let Some(interface) = (unsafe { maps::INTERFACES.get(&ifindex) }) else { return Ok(()) };
    let zone = interface.zones[bank as usize];
    let Some(guard) = GUARDS.get(guard::index(bank, zone) & (2 * limits::ZONES as u32 - 1)) else {
        return Ok(());
    };
    let Ok(Packet::Ip(meta)) = parse(&XdpFrame(ctx)) else { return Ok(()) };
    if guard.prefixes != 0 {
        let source = GuardPrefix::new(bank, zone, meta.source);
        match GUARD_PREFIXES.get(&Key::new(GuardPrefix::LENGTH, source)) {
            Some(&list::ALLOW) => return Ok(()),
            Some(_) => return Err(Reason::Blocked),
            None => {}
        }
    }
    match flood(&meta) {
        Some(flood) => match guard.rate(flood) {
            Some(rate) => take(&SourceKey::new(meta.source, zone, flood), &rate),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// The flood that a packet could be part of.
#[inline(always)]
fn flood(meta: &PacketMeta) -> Option<Flood> {
    match meta.protocol {
        protocol::TCP if meta.opens() => Some(Flood::Syn),
        protocol::UDP => Some(Flood::Udp),
        protocol::ICMP | protocol::ICMPV6 => Some(Flood::Icmp),
        _ => None,
    }
}

/// Takes a token from a source's bucket. CPUs that do so at the same time may take the same one.
#[inline(always)]
fn take(key: &SourceKey, rate: &Rate) -> Result<(), Reason> {
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = SOURCES.get_ptr_mut(key) else {
        let bucket = Bucket::default().take(now, rate).unwrap_or_default();
        let _another_cpu_was_first = SOURCES.insert(key, bucket, u64::from(BPF_NOEXIST));
        return Ok(());
    };
    // SAFETY: the slot stays mapped while the program runs, and a bucket is one word.
    let next = unsafe { bucket.read() }.take(now, rate).ok_or(Reason::Flood)?;
    // SAFETY: as above.
    unsafe { bucket.write(next) };
    Ok(())
}

/// Bytes of the frame.
#[inline(always)]
fn length(ctx: &XdpContext) -> u64 {
    (ctx.data_end() - ctx.data()) as u64
}

#[inline(always)]
fn ifindex(ctx: &XdpContext) -> u32 {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*ctx.ctx).ingress_ifindex }
}

/// The packet of an XDP program.
struct XdpFrame<'a>(&'a XdpContext);

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        // From the kernel (Linux 5.18): of a difference of pointers the compiler would conclude that reads below it
        // need no check, which the verifier does not.
        // SAFETY: the context is valid.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // As for the other programs: the verifier needs to see the bound.
        if offset > HEADERS_MAX + 64 {
            return None;
        }
        let start = self.0.data() + offset;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the comparison with data_end proves that N bytes from start are in the packet, and a byte
        // array has no alignment.
        Some(unsafe { *(start as *const [u8; N]) })
    }
}
