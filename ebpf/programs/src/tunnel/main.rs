//! The kernel programs of the tunneler: what programs of this host connect and send to an intercepted destination goes
//! to the tunneler's sockets at the loopback address, and the programs see the address that they wanted.
//!
//! Hooks of a cgroup exchange the addresses ([`hooks`]); a program at the loopback interface tells the tunneler whose
//! packets come in ([`loopback`]). Where there are no such hooks, programs on the way out of interfaces take the packets
//! ([`leaving`]) and one on the way into the loopback interface hands them to the tunneler ([`arriving`]). Packets
//! of mirrored services are copied for sensors ([`copies`]): at the loopback interface those of programs, at any interface
//! those to servers of hosted services.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod address;
mod arriving;
mod copies;
#[path = "../frame.rs"]
mod frame;
#[expect(dead_code, unused_imports, reason = "the gateway's programs ask for more")]
#[path = "../hook.rs"]
mod hook;
mod hooks;
mod leaving;
mod loopback;
mod maps;
#[path = "../mirror/mod.rs"]
mod mirror;
mod packet;
mod parts;
#[path = "../stage/rewrite.rs"]
mod rewrite;
#[path = "../word.rs"]
mod word;

/// ABI version of this object; the loader reads it before anything else.
#[used]
#[unsafe(link_section = "nightgate_abi")]
static ABI_VERSION: u32 = nightgate_abi::VERSION;

/// Lets the kernel's helpers for GPL-compatible programs be called.
#[used]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
