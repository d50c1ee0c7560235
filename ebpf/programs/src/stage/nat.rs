//! Address translation. A packet that comes in gets the destination that it has inside, before anything else looks
//! at it; one that leaves gets the source that it has outside, after all else. See [`nightgate_abi::nat`].

mod choose;
mod enter;
mod leave;
mod quoted;
mod recount;
mod redirect;
mod reserve;
mod undo;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{
    Active, Address, Flow, FlowKey, Group, Reason, Slot,
    flow::End,
    forest::Match,
    nat::{NO_COUNTER, Target, Translation, translated},
};
use nightgate_packet::rewrite::{self, Change, Side};

pub(crate) use self::{
    enter::enter,
    leave::{leave, leaves_changed},
    quoted::{describe_error, find_quoted, translate_error},
    recount::recount,
    redirect::{admit, redirect},
    reserve::move_aliases,
    undo::undo,
};
use crate::{
    frame::TcFrame,
    maps,
    stage::{
        Work, lend, report,
        track::table::{self, Table},
    },
};

/// What address translation needs of [`Work`].
pub(crate) struct NatWork {
    /// Translation of the flow that is judged.
    pub(crate) translation: Translation,
    /// The end of the flow's key that has sent the packet at hand, if the flow is new or was found by an alias.
    pub(crate) origin: End,
    /// The table of the flow at hand.
    pub(crate) table: Table,
    /// What a new flow's source may become.
    choice: choose::Choice,
    /// Key of an alias.
    alias: FlowKey,
    /// The end of that key that its flow has another endpoint for.
    replaced: End,
    /// Key of the flow that an alias found in the table is of.
    holder: FlowKey,
    /// The entry of the alias.
    entry: Flow,
    /// What becomes of an end of the packet at hand, or of the packet that it quotes.
    change: Change,
    /// Whether an error is changed.
    error: quoted::Due,
    /// What leaves.
    leaving: leave::Leaving,
}

impl NatWork {
    /// Makes the entry one that gives the end `replaced` of its key another endpoint. What it does not write is
    /// zero: nothing else writes the entry.
    #[inline(always)]
    fn describe_alias(&mut self, replaced: End, inside: (Address, u16)) {
        self.entry.origin = replaced as u8;
        self.entry.translation.flags = translated::ALIAS;
        self.entry.translation.guises[0].address = inside.0;
        self.entry.translation.guises[0].port = inside.1;
    }
}

/// What a translation rule makes of an end.
#[inline(always)]
fn target(group: Group, found: Match, active: Active) -> Result<Target, Reason> {
    let bank = maps::BANKS.get(active.bank()).ok_or(Reason::BankMissing)?;
    let slot: Option<&Slot> = group.parameters(found.rule, |index| bank.get(index));
    slot.map(Target::from_slot).ok_or(Reason::BankMissing)
}

/// Counts a packet under a translation rule.
#[inline(always)]
pub(crate) fn count(ctx: &TcContext, active: Active, counter: u32, now: u64) {
    if counter != NO_COUNTER {
        report::count_rule(ctx, active, counter, now);
    }
}

/// Finds the flow that the entry of the key [`Work::key`] is an alias of. That key is in [`NatWork::alias`] afterwards, and
/// [`Work::key`] the flow's, whose end that appears as another is returned.
#[inline(always)]
fn resolve(work: &mut Work, alias: *mut Flow) -> Option<(*mut Flow, Table, End)> {
    // SAFETY: the slot stays mapped while the program runs.
    let alias = unsafe { &*alias };
    let inside = alias.translation.guises[0].endpoint();
    work.nat.alias = work.key;
    let (middle, end) = work.nat.alias.with_end(alias.originator(), inside);
    work.key = middle;
    let (slot, table) = table::find(&work.key)?;
    // SAFETY: as above.
    if unsafe { (*slot).is_alias() } { None } else { Some((slot, table, end)) }
}

/// Changes one end of the packet at hand.
#[inline(always)]
pub(crate) fn rewrite(
    ctx: &TcContext,
    work: &mut Work,
    side: Side,
    [old, new]: [(Address, u16); 2],
) -> Result<(), Reason> {
    work.nat.change = Change { side, old, new };
    apply(ctx, work)
}

/// Makes the change in the work space to the packet at hand.
#[inline(always)]
fn apply(ctx: &TcContext, work: &mut Work) -> Result<(), Reason> {
    lend(work);
    if nightgate_rewrite(ctx.skb.skb) == 0 { Ok(()) } else { Err(Reason::NatRewrite) }
}

/// Makes the change. A global function, as `nightgate_parse` is. Returns 0 if it is made.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_rewrite(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `apply` has lent its reference to it.
    let work = unsafe { &*work };
    let ctx = TcContext::new(skb);
    u32::from(rewrite::rewrite(&TcFrame(&ctx), &work.meta.layout(), &work.nat.change).is_err())
}
