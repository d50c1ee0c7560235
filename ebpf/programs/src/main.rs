//! The kernel programs of Nightgate: one file per attach point, the stages they share beside them.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod frame;
mod hook;
mod maps;
mod mirror;
mod sk_intercept;
mod stage;
mod tc_egress;
mod tc_fallback;
mod tc_ingress;
mod tc_mirror;
mod word;
mod xdp_guard;

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
