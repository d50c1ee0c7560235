//! TC ingress of a managed interface: everything that comes in.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{
    hook::Hook,
    stage::{self, report},
};

#[classifier]
pub(crate) fn tc_ingress(ctx: TcContext) -> i32 {
    match stage::run(&ctx, Hook::Ingress) {
        Ok(reason) => report::pass(&ctx, reason),
        Err(reason) => report::drop(&ctx, reason),
    }
}
