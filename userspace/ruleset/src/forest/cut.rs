//! Where to cut.

use nightgate_abi::forest::DIMENSIONS;

use super::bounds::Bounds;

/// Of more members, as many are looked at, evenly chosen.
const SAMPLE: usize = 64;

/// The dimension and pivot that leave the fewest members on both sides; none if no cut is worth its copies.
pub(super) fn choose(boxes: &[Bounds], members: &[usize], region: &Bounds) -> Option<(usize, u64)> {
    let step = members.len().div_ceil(SAMPLE);
    let sample: Vec<&Bounds> = members.iter().step_by(step).map(|index| &boxes[*index]).collect();
    let cuts = (0..DIMENSIONS).filter_map(|dimension| {
        let (cost, pivot) = best(&sample, dimension, region)?;
        Some((cost, dimension, pivot))
    });
    cuts.min().map(|(_, dimension, pivot)| (dimension, pivot))
}

/// The best pivot in a dimension and its cost: the sum of the squares of both sides, which is low if the sides
/// are even and share little.
fn best(sample: &[&Bounds], dimension: usize, region: &Bounds) -> Option<(usize, u64)> {
    let (region_low, region_high) = region.range(dimension);
    let ranges = || sample.iter().map(|bounds| bounds.range(dimension));
    let mut lows: Vec<u64> = ranges().map(|(low, _)| low).collect();
    let mut highs: Vec<u64> = ranges().map(|(_, high)| high).collect();
    lows.sort_unstable();
    highs.sort_unstable();
    let begins = lows.iter().copied();
    let ends = highs.iter().filter_map(|high| high.checked_add(1));
    let mut pivots: Vec<u64> =
        begins.chain(ends).filter(|pivot| *pivot > region_low && *pivot <= region_high).collect();
    pivots.sort_unstable();
    pivots.dedup();
    let most = sample.len() - (sample.len() / 16).max(1);
    pivots
        .into_iter()
        .filter_map(|pivot| {
            let left = lows.partition_point(|low| *low < pivot);
            let right = sample.len() - highs.partition_point(|high| *high < pivot);
            (left.max(right) <= most).then_some((left * left + right * right, pivot))
        })
        .min()
}
