//! Sets as the slots of a bank.

use nightgate_abi::{Slot, set::NODE_BOUNDS};

use super::slots::reference;
use crate::bounds::{Bound, Side};

/// Lays a set out and returns the index of its first node.
pub(super) fn plant(slots: &mut Vec<Slot>, bounds: &[Bound]) -> u32 {
    let at = slots.len();
    slots.push(Slot::default());
    node(slots, at, bounds);
    reference(at)
}

/// Lays a node out, and what is below it. Each child has at least one bound.
fn node(slots: &mut Vec<Slot>, at: usize, bounds: &[Bound]) {
    let own = if bounds.len() <= NODE_BOUNDS { bounds.len() } else { (bounds.len() - 1) / 2 };
    let own = own.min(NODE_BOUNDS);
    let below = bounds.len() - own;
    let children = if below == 0 { 0 } else { own + 1 };
    let first = slots.len();
    slots.extend(std::iter::repeat_n(Slot::default(), children));
    let mut values = [u128::MAX; NODE_BOUNDS];
    // Above all values there is only the highest one, for which the last bound speaks.
    let is_inside = bounds.last().is_some_and(|bound| bound.side == Side::Inside);
    let mut begins = [is_inside; NODE_BOUNDS];
    let mut rest = bounds;
    for child in 0..=own {
        if below != 0 {
            let share = below * (child + 1) / (own + 1) - below * child / (own + 1);
            let (part, others) = rest.split_at(share);
            node(slots, first + child, part);
            rest = others;
        }
        if let Some((bound, others)) = rest.split_first().filter(|_| child < own) {
            (values[child], begins[child]) = (bound.value, bound.side == Side::Inside);
            rest = others;
        }
    }
    let begins = begins.iter().rev().fold(0, |bits, begins| bits << 1 | u8::from(*begins));
    let count = u8::try_from(children).expect("a node has at most six children");
    slots[at] =
        Slot::set_node(values, begins, (if children == 0 { 0 } else { reference(first) }, count));
}
