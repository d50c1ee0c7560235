//! TC egress of a managed interface: everything that leaves, forwarded or sent by the gateway itself.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{
    hook::Hook,
    stage::{self, report},
};

#[classifier]
pub(crate) fn tc_egress(ctx: TcContext) -> i32 {
    let outcome = match stage::pass_copy(&ctx) {
        Some(outcome) => outcome,
        None => stage::run(&ctx, Hook::Egress),
    };
    match outcome {
        Ok(reason) => report::pass(&ctx, reason),
        Err(reason) => report::drop(&ctx, Hook::Egress, reason),
    }
}
