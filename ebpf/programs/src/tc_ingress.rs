//! TC ingress of a managed interface: everything that comes in.

use aya_ebpf::{macros::classifier, programs::TcContext};

use nightgate_abi::Reason;

use crate::{
    hook::Hook,
    stage::{self, echo, reject, report},
};

#[classifier]
pub(crate) fn tc_ingress(ctx: TcContext) -> i32 {
    match stage::run(&ctx, Hook::Ingress) {
        Ok(Reason::EchoAnswered) => {
            report::pass(&ctx, Reason::EchoAnswered);
            echo::send_back(&ctx)
        }
        Ok(reason) => report::pass(&ctx, reason),
        Err(Reason::Rejected) => {
            report::drop(&ctx, Hook::Ingress, Reason::Rejected);
            reject::answer(&ctx)
        }
        Err(reason) => report::drop(&ctx, Hook::Ingress, reason),
    }
}
