//! The address in the context of a hook, in both families.

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use nightgate_abi::{Address, Family};

/// Where a socket connects or sends to, or has received from.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: Address,
    pub(crate) port: u16,
}

/// Reads a field of 32 bits: one load, which the compiler may neither merge with another nor move.
macro_rules! load {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the context is valid for the whole program run.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}

/// Writes one.
macro_rules! store {
    ($context:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as for reading; the hooks that write may (bpf_sock_addr in linux/bpf.h).
        unsafe { core::ptr::write_volatile(&raw mut (*$context).$($field)+, $value) }
    };
}

impl Peer {
    /// The peer of a hook of this family. IPv6 sockets may have IPv4 peers, as mapped addresses.
    #[inline(always)]
    pub(crate) fn read(ctx: &SockAddrContext, family: Family) -> Self {
        let context: *mut bpf_sock_addr = ctx.sock_addr;
        let address = match family {
            Family::V4 => Address::from_v4(load!(context, user_ip4).to_ne_bytes()),
            Family::V6 => Address::from_halves([
                u64::from(load!(context, user_ip6[0]))
                    | u64::from(load!(context, user_ip6[1])) << 32,
                u64::from(load!(context, user_ip6[2]))
                    | u64::from(load!(context, user_ip6[3])) << 32,
            ]),
        };
        // The kernel keeps 16 bits in network order.
        let port = u16::from_be(load!(context, user_port) as u16);
        Self { address, port }
    }

    /// Exchanges the peer.
    #[inline(always)]
    pub(crate) fn write(self, ctx: &SockAddrContext, family: Family) {
        let context: *mut bpf_sock_addr = ctx.sock_addr;
        let [a, b, c, d] = self.address.quarters();
        match family {
            Family::V4 => store!(context, d, user_ip4),
            Family::V6 => {
                store!(context, a, user_ip6[0]);
                store!(context, b, user_ip6[1]);
                store!(context, c, user_ip6[2]);
                store!(context, d, user_ip6[3]);
            }
        }
        store!(context, u32::from(self.port.to_be()), user_port);
    }
}

/// The socket's IP protocol.
#[inline(always)]
pub(crate) fn protocol(ctx: &SockAddrContext) -> u32 {
    let context: *mut bpf_sock_addr = ctx.sock_addr;
    load!(context, protocol)
}

/// The loopback address that packets to this address would have to go to instead.
#[inline(always)]
pub(crate) fn loopback(address: Address) -> Address {
    match address.family() {
        Family::V4 => Address::from_v4([127, 0, 0, 1]),
        Family::V6 => Address::from_v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    }
}
