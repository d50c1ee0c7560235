//! Sets as the bounds of their ranges.

use nightgate_abi::Address;
use nightgate_config::{PortRange, Prefix};

/// A value from which on others are in a set, or no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bound {
    pub(crate) value: u128,
    pub(crate) side: Side,
}

/// What is from a bound on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Inside,
    Outside,
}

/// The IPv4 addresses in their mapped form, which no IPv6 prefix holds.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// The bounds of a set of addresses, in their mapped form.
pub(crate) fn of_addresses(prefixes: &[Prefix]) -> Vec<Bound> {
    bounds(prefixes.iter().flat_map(|prefix| ranges(*prefix)).collect())
}

/// The bounds of a set of ports.
pub(crate) fn of_ports(ports: &[PortRange]) -> Vec<Bound> {
    bounds(ports.iter().map(|range| (range.low().into(), range.high().into())).collect())
}

/// One range of a prefix, or the two beside the IPv4 addresses.
fn ranges(prefix: Prefix) -> impl Iterator<Item = (u128, u128)> {
    let first = u128::from_be_bytes(Address::from(prefix.address()).octets());
    let hosts = if prefix.is_ipv4() { 32 } else { 128 } - u32::from(prefix.length());
    let last = first | 1_u128.checked_shl(hosts).map_or(u128::MAX, |size| size - 1);
    let has_mapped = !prefix.is_ipv4() && first <= MAPPED.0 && MAPPED.1 <= last;
    let (low, high) = if has_mapped {
        ((first, MAPPED.0 - 1), Some((MAPPED.1 + 1, last)))
    } else {
        ((first, last), None)
    };
    std::iter::once(low).chain(high)
}

/// The bounds of ranges that may overlap and touch.
fn bounds(mut ranges: Vec<(u128, u128)>) -> Vec<Bound> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if last.1 == u128::MAX || low <= last.1 + 1 => last.1 = last.1.max(high),
            Some(_) | None => merged.push((low, high)),
        }
    }
    let bound = |value, side| Bound { value, side };
    merged
        .into_iter()
        .flat_map(|(low, high)| {
            let end = high.checked_add(1).map(|end| bound(end, Side::Outside));
            std::iter::once(bound(low, Side::Inside)).chain(end)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_ipv6_prefixes_hold_no_ipv4() {
        let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length).unwrap();
        let values = |prefixes: &[Prefix]| -> Vec<u128> {
            of_addresses(prefixes).iter().map(|bound| bound.value).collect()
        };
        let base = MAPPED.0;
        assert_eq!(
            values(&[prefix("10.1.0.0", 16), prefix("10.0.0.0", 16), prefix("10.0.3.0", 24)]),
            [base | 0x0a00_0000, base | 0x0a02_0000]
        );
        assert_eq!(values(&[prefix("::", 0)]), [0, MAPPED.0, MAPPED.1 + 1]);
        assert_eq!(values(&[prefix("::", 0), prefix("0.0.0.0", 0)]), [0]);
        assert_eq!(values(&[prefix("2001:db8::", 32)]), [0x2001_0db8 << 96, 0x2001_0db9 << 96]);
        assert_eq!(values(&[]), []);
    }
}
