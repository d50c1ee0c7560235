//! Whether regions cover another, alone or together.

use crate::region::Region;

/// Boxes that what is left of a region may fall into; beyond that nothing is said.
const PIECES: usize = 64;
/// Regions that are tried together at most.
const TOGETHER: usize = 256;

/// Regions that together cover another: one if one does; `None` if they do not, or if it is too costly to tell.
pub(super) fn cover<'a>(
    region: &Region,
    others: impl Iterator<Item = (u32, &'a Region)> + Clone,
) -> Option<Vec<u32>> {
    if let Some((alone, _)) = others.clone().find(|(_, other)| other.covers(region)) {
        return Some(vec![alone]);
    }
    let mut left = vec![*region];
    let mut used = Vec::new();
    for (index, other) in others.take(TOGETHER) {
        if left.iter().any(|piece| piece.meets(other)) {
            left = left.iter().flat_map(|piece| piece.without(other)).collect();
            used.push(index);
        }
        if left.is_empty() {
            return Some(used);
        }
        if left.len() > PIECES {
            return None;
        }
    }
    None
}
