//! Which rules overlap: all pairs of regions that meet, without comparing all pairs.
//!
//! A set of regions is divided at a value: those below it, those above it and those across it. What is below
//! meets nothing above, so only the other combinations are looked at, each divided again by its own value.

use crate::region::{RANGES, Region};

/// Pairs of regions that meet, by index, the lower first.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    pub(crate) pairs: Vec<(u32, u32)>,
    pub(crate) search: Search,
}

/// Whether all regions have been compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Search {
    /// Every pair is known.
    #[default]
    Complete,
    /// There were too many; some are missing.
    CutShort,
}

/// As few pairs are compared one by one.
const FEW: usize = 1_024;
/// Dividing has to spare at least one pair of so many.
const GAIN: usize = 8;
/// Values that a dividing one is chosen from.
const SAMPLES: usize = 32;
/// Pairs that are compared one by one at most: about a second.
const COMPARISONS: usize = 400_000_000;
/// Pairs that are remembered at most: 128 MiB.
const PAIRS: usize = 16_777_216;

/// Finds the pairs that meet.
pub(crate) fn find(regions: &[Region]) -> Overlaps {
    let mut join = Join { regions, left: COMPARISONS, found: Overlaps::default() };
    let all = (0..).zip(regions).map(|(index, _)| index).collect::<Vec<u32>>();
    join.within(&all);
    join.found
}

struct Join<'a> {
    regions: &'a [Region],
    /// Comparisons left.
    left: usize,
    found: Overlaps,
}

/// A set of regions divided at a value.
#[derive(Default)]
struct Parts {
    below: Vec<u32>,
    above: Vec<u32>,
    across: Vec<u32>,
}

impl Join<'_> {
    /// Pairs within a set.
    fn within(&mut self, set: &[u32]) {
        let division = self.best(set, set).filter(|_| set.len() * set.len() > FEW);
        let Some((dimension, pivot)) = division else {
            for (position, first) in set.iter().enumerate() {
                self.compare(*first, &set[position + 1..]);
            }
            return;
        };
        let parts = self.divide(set, dimension, pivot);
        self.within(&parts.below);
        self.within(&parts.above);
        self.within(&parts.across);
        self.between(&parts.across, &parts.below);
        self.between(&parts.across, &parts.above);
    }

    /// Pairs of one of each set.
    fn between(&mut self, a: &[u32], b: &[u32]) {
        let division = self.best(a, b).filter(|_| a.len() * b.len() > FEW);
        let Some((dimension, pivot)) = division else {
            a.iter().for_each(|first| self.compare(*first, b));
            return;
        };
        let (a, all_b) = (self.divide(a, dimension, pivot), b);
        let b = self.divide(b, dimension, pivot);
        self.between(&a.below, &b.below);
        self.between(&a.above, &b.above);
        self.between(&a.below, &b.across);
        self.between(&a.above, &b.across);
        self.between(&a.across, all_b);
    }

    fn compare(&mut self, first: u32, others: &[u32]) {
        if self.left < others.len() || self.found.pairs.len() > PAIRS {
            self.found.search = Search::CutShort;
            return;
        }
        self.left -= others.len();
        let region = &self.regions[first as usize];
        let meeting = others.iter().filter(|other| region.meets(&self.regions[**other as usize]));
        self.found.pairs.extend(meeting.map(|other| (first.min(*other), first.max(*other))));
    }

    /// The dimension and value whose division leaves the fewest pairs; `None` if none spares enough.
    fn best(&self, a: &[u32], b: &[u32]) -> Option<(usize, u128)> {
        let all = a.len() * b.len();
        let candidates = (0..RANGES).filter_map(|dimension| {
            let mut lows: Vec<u128> = [a, b]
                .into_iter()
                .flat_map(|set| set.iter().step_by(set.len().div_ceil(SAMPLES).max(1)))
                .map(|index| self.regions[*index as usize].range(dimension).0)
                .collect();
            lows.sort_unstable();
            lows.dedup();
            let pivot = *lows.get(lows.len() / 2).filter(|_| lows.len() > 1)?;
            let [a_parts, b_parts] = [a, b].map(|set| self.count(set, dimension, pivot));
            let [below, above, across] = a_parts;
            let pairs = below * (b_parts[0] + b_parts[2])
                + above * (b_parts[1] + b_parts[2])
                + across * b.len();
            Some((pairs, dimension, pivot))
        });
        let (pairs, dimension, pivot) = candidates.min()?;
        (pairs + all / GAIN <= all).then_some((dimension, pivot))
    }

    /// How many are below, above and across a value.
    fn count(&self, set: &[u32], dimension: usize, pivot: u128) -> [usize; 3] {
        let mut counts = [0; 3];
        for index in set {
            let (low, high) = self.regions[*index as usize].range(dimension);
            counts[if high < pivot {
                0
            } else if low >= pivot {
                1
            } else {
                2
            }] += 1;
        }
        counts
    }

    fn divide(&self, set: &[u32], dimension: usize, pivot: u128) -> Parts {
        let mut parts = Parts::default();
        for index in set {
            let (low, high) = self.regions[*index as usize].range(dimension);
            let part = if high < pivot {
                &mut parts.below
            } else if low >= pivot {
                &mut parts.above
            } else {
                &mut parts.across
            };
            part.push(*index);
        }
        parts
    }
}
