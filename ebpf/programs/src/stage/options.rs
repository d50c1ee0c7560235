//! Searches among the options of a segment.

use aya_ebpf::programs::TcContext;
use nightgate_packet::{OPTIONS_MAX, OptionSearch, Step};

use crate::{
    frame::TcFrame,
    stage::repeat::{Turn, repeat},
};

/// A search in a packet.
struct Search<'a> {
    ctx: &'a TcContext,
    search: OptionSearch,
}

/// Where in the frame the value of an option is, if the packet has it.
#[inline(always)]
pub(crate) fn find(ctx: &TcContext, search: OptionSearch) -> Option<usize> {
    let mut search = Search { ctx, search };
    repeat(OPTIONS_MAX, step, &mut search);
    search.search.found()
}

/// Looks at one option.
extern "C" fn step(_index: u64, Search { ctx, search }: &mut Search<'_>) -> Turn {
    match search.step(&TcFrame(ctx)) {
        Step::Goes => Turn::Continue,
        Step::Over => Turn::Break,
    }
}
