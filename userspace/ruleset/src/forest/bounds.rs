//! What an entry, or a part of a tree, can match at all.

use nightgate_abi::{Family, RuleEntry, forest::DIMENSIONS};

/// A range in every dimension of [`nightgate_abi::forest::Key`], both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    low: [u64; DIMENSIONS],
    high: [u64; DIMENSIONS],
}

/// Index of the zones, of which the bounds are only a hull: a set of zones need not be a range.
const ZONES: usize = 7;
/// Mask bits from which on a prefix is narrow: /16 of IPv4, in the mapped form, and /32 of IPv6.
const NARROW_V4: u32 = 112;
const NARROW_V6: u32 = 32;

impl Bounds {
    /// No bounds.
    pub(super) const EVERYTHING: Self = Self { low: [0; DIMENSIONS], high: [u64::MAX; DIMENSIONS] };

    /// The bounds of an entry.
    pub(super) fn of(entry: &RuleEntry) -> Self {
        let mut bounds = Self::EVERYTHING;
        for (half, (value, mask)) in [
            (entry.source[0], entry.source_mask[0]),
            (entry.source[1], entry.source_mask[1]),
            (entry.destination[0], entry.destination_mask[0]),
            (entry.destination[1], entry.destination_mask[1]),
        ]
        .into_iter()
        .enumerate()
        {
            bounds.low[half] = u64::from_be(value);
            bounds.high[half] = u64::from_be(value | !mask);
        }
        let ports = [
            (entry.source_port, entry.source_port_span),
            (entry.destination_port, entry.destination_port_span),
        ];
        for (index, (low, span)) in (4..).zip(ports) {
            bounds.low[index] = u64::from(low);
            bounds.high[index] = u64::from(low) + u64::from(span);
        }
        bounds.low[6] = u64::from(entry.protocol & entry.protocol_mask);
        bounds.high[6] = u64::from(entry.protocol | !entry.protocol_mask);
        let (from, to) = (entry.from, entry.to);
        bounds.low[ZONES] = u64::from(from.trailing_zeros()) << 8 | u64::from(to.trailing_zeros());
        bounds.high[ZONES] = u64::from(63_u32.saturating_sub(from.leading_zeros())) << 8
            | u64::from(63_u32.saturating_sub(to.leading_zeros()));
        bounds
    }

    /// The range in a dimension.
    pub(super) fn range(&self, dimension: usize) -> (u64, u64) {
        (self.low[dimension], self.high[dimension])
    }

    /// Whether source and destination are narrow.
    pub(super) fn is_narrow(&self) -> [bool; 2] {
        [0, 2].map(|half| {
            let high = (self.low[half] ^ self.high[half]).leading_zeros();
            let low = (self.low[half + 1] ^ self.high[half + 1]).leading_zeros();
            let is_v4 = high == 64 && self.low[half] == 0 && low >= 32;
            if is_v4 { high + low >= NARROW_V4 } else { high >= NARROW_V6 }
        })
    }

    /// Whether something is in both in a dimension.
    pub(super) fn meets(&self, other: &Self, dimension: usize) -> bool {
        self.low[dimension] <= other.high[dimension] && other.low[dimension] <= self.high[dimension]
    }

    /// Whether nothing in `region` is outside, zones apart. Values that cannot occur are in no region that
    /// matters.
    pub(super) fn covers(&self, region: &Self) -> bool {
        let most = [u64::MAX, u64::MAX, u64::MAX, u64::MAX, 0xffff, 0xffff, 0xff];
        most.into_iter().enumerate().all(|(dimension, most)| {
            self.low[dimension] <= region.low[dimension]
                && region.high[dimension].min(most) <= self.high[dimension]
        })
    }

    /// Whether an entry's zones match all zones of this region. Known only within one zone of origin.
    pub(super) fn is_covered_by_zones(&self, entry: &RuleEntry) -> bool {
        let (low, high) = self.range(ZONES);
        let from = low >> 8;
        let (first, last) = (low & 0xff, (high & 0xff).min(63));
        from == high >> 8
            && from < 64
            && entry.from >> from & 1 == 1
            && (first..=last).all(|to| to == 0 || entry.to >> to & 1 == 1)
    }

    /// The part that is within the hull of others.
    pub(super) fn within_hull<'a>(
        mut self,
        others: impl Iterator<Item = &'a Self> + Clone,
    ) -> Self {
        for dimension in 0..DIMENSIONS {
            let low = others.clone().map(|other| other.low[dimension]).min();
            let high = others.clone().map(|other| other.high[dimension]).max();
            self.low[dimension] = self.low[dimension].max(low.unwrap_or(0));
            self.high[dimension] = self.high[dimension].min(high.unwrap_or(u64::MAX));
        }
        self
    }

    /// Whether an entry with these bounds matches every family within them: a short IPv6 prefix has the mapped
    /// IPv4 addresses within its bounds without matching them.
    pub(super) fn matches_all_families(&self, entry: &RuleEntry) -> bool {
        entry.families & Family::V4.bit() != 0 || self.low[0] > 0 || self.low[2] > 0
    }

    /// The parts below a pivot and from it on.
    pub(super) fn cut(mut self, dimension: usize, pivot: u64) -> [Self; 2] {
        let mut below = self;
        below.high[dimension] = pivot.saturating_sub(1);
        self.low[dimension] = pivot;
        [below, self]
    }
}
