//! Copies of mirrored packets leave for their session's sensor in its encapsulation: at the ingress of the mirror's inner
//! device, behind the barrier that makes of them the frames that a wire would carry, or before that, at the egress of the
//! outer one, where the sensor's interface does the same.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::mirror::send_on;

#[classifier]
pub(crate) fn tc_mirror(ctx: TcContext) -> i32 {
    send_on(&ctx)
}
