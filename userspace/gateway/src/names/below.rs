//! Names below a domain: they get addresses when somebody asks for them.
//!
//! A domain has a block of addresses of each family, which the kernel intercepts as a whole. So a name that is asked for
//! the first time needs no change of the kernel's table.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::{HostName, NameAddresses, SyntheticRanges, fnv1a};

/// The addresses of a domain's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block {
    /// First IPv4 address and prefix length.
    pub v4: (Ipv4Addr, u8),
    /// First IPv6 address and prefix length.
    pub v6: (Ipv6Addr, u8),
}

/// Blocks of domains, and the names in them.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    blocks: BTreeMap<HostName, Names>,
}

/// Where blocks are cut from: the upper half of the ranges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    v4: u32,
    v6: u128,
    /// Bits of an address in its block.
    bits: u8,
    /// How many blocks there are.
    blocks: u32,
}

#[derive(Clone, Debug)]
struct Names {
    number: u32,
    block: Block,
    by_name: BTreeMap<HostName, (u32, Instant)>,
    by_offset: BTreeMap<u32, HostName>,
}

/// A name that nobody has asked for since may lose its address to another.
const FORGET: Duration = Duration::from_secs(3_600);

/// Bits of the largest block: 4,096 names below a domain.
const BLOCK_BITS: u8 = 12;

/// Bits of the number of blocks that are kept free for, at least: 16 domains.
const SPARE_BITS: u8 = 4;

impl Layout {
    /// The layout of ranges; none if they are too small.
    pub(super) fn of(ranges: SyntheticRanges) -> Option<Self> {
        let free = |whole: u8, length: u8| whole.checked_sub(length)?.checked_sub(1 + SPARE_BITS);
        let v4 = free(32, ranges.v4.1)?;
        let v6 = free(128, ranges.v6.1)?;
        let bits = v4.min(v6).min(BLOCK_BITS);
        if bits < 2 {
            return None;
        }
        let spare = (v4.min(v6) + SPARE_BITS - bits).min(16);
        let upper_v4 = 1_u32 << (31 - ranges.v4.1);
        let upper_v6 = 1_u128 << (127 - ranges.v6.1);
        Some(Self {
            v4: u32::from(ranges.v4.0) & !((upper_v4 << 1).wrapping_sub(1)) | upper_v4,
            v6: u128::from(ranges.v6.0) & !((upper_v6 << 1).wrapping_sub(1)) | upper_v6,
            bits,
            blocks: 1 << spare,
        })
    }

    fn block(&self, number: u32) -> Block {
        let v4 = self.v4 + (number << self.bits);
        let v6 = self.v6 + (u128::from(number) << self.bits);
        Block {
            v4: (Ipv4Addr::from(v4), 32 - self.bits),
            v6: (Ipv6Addr::from(v6), 128 - self.bits),
        }
    }
}

impl Domains {
    /// Forgets the domains that are not wanted any longer, then gives each new one its block. Returns those for
    /// which none was left.
    pub(super) fn assign(
        &mut self,
        layout: Option<&Layout>,
        wanted: &BTreeSet<HostName>,
    ) -> Vec<HostName> {
        self.blocks.retain(|domain, _| wanted.contains(domain));
        let mut used: BTreeSet<u32> = self.blocks.values().map(|names| names.number).collect();
        let mut without = Vec::new();
        for domain in wanted {
            if self.blocks.contains_key(domain) {
                continue;
            }
            let number = layout.and_then(|layout| {
                let start = fnv1a(domain.as_str().as_bytes());
                (0..layout.blocks)
                    .map(|step| around(start, step, layout.blocks))
                    .find(|number| !used.contains(number))
            });
            let (Some(layout), Some(number)) = (layout, number) else {
                without.push(domain.clone());
                continue;
            };
            used.insert(number);
            let block = layout.block(number);
            let (by_name, by_offset) = (BTreeMap::new(), BTreeMap::new());
            self.blocks.insert(domain.clone(), Names { number, block, by_name, by_offset });
        }
        without
    }

    /// The block of a domain.
    pub fn block(&self, domain: &HostName) -> Option<Block> {
        self.blocks.get(domain).map(|names| names.block)
    }

    /// The domain that a name is below: the longest.
    pub fn domain_of(&self, name: &HostName) -> Option<HostName> {
        name.parents().find(|parent| self.blocks.contains_key(parent))
    }

    /// The addresses of a name below a domain, from now on if it had none. None if the block is full of names that
    /// were asked for lately.
    pub fn addresses(
        &mut self,
        domain: &HostName,
        name: &HostName,
        now: Instant,
    ) -> Option<NameAddresses> {
        self.blocks.get_mut(domain)?.addresses(name, now)
    }

    /// The name behind an address, if it was asked for.
    pub fn name_of(&self, address: IpAddr) -> Option<&HostName> {
        self.blocks.values().find_map(|names| names.by_offset.get(&names.block.offset(address)?))
    }
}

impl Block {
    fn offset(&self, address: IpAddr) -> Option<u32> {
        let offset = match address {
            IpAddr::V4(address) => u128::from(u32::from(address).checked_sub(self.v4.0.into())?),
            IpAddr::V6(address) => u128::from(address).checked_sub(self.v6.0.into())?,
        };
        u32::try_from(offset).ok().filter(|offset| *offset < self.size())
    }

    fn size(&self) -> u32 {
        1 << (32 - self.v4.1)
    }

    fn at(&self, offset: u32) -> NameAddresses {
        NameAddresses {
            v4: Ipv4Addr::from(u32::from(self.v4.0) + offset),
            v6: Ipv6Addr::from(u128::from(self.v6.0) + u128::from(offset)),
        }
    }
}

/// So many steps behind a start, in a circle of `size` places.
fn around(start: u64, step: u32, size: u32) -> u32 {
    let size = u64::from(size.max(1));
    u32::try_from((start % size + u64::from(step)) % size).unwrap_or_default()
}

impl Names {
    fn addresses(&mut self, name: &HostName, now: Instant) -> Option<NameAddresses> {
        if let Some((offset, asked)) = self.by_name.get_mut(name) {
            *asked = now;
            return Some(self.block.at(*offset));
        }
        // Neither the first nor the last, as in all networks.
        let room = self.block.size().saturating_sub(2);
        if self.by_name.len() >= room as usize {
            self.forget_oldest(now)?;
        }
        let start = fnv1a(name.as_str().as_bytes());
        let offset = (0..room)
            .map(|step| 1 + around(start, step, room))
            .find(|offset| !self.by_offset.contains_key(offset))?;
        self.by_name.insert(name.clone(), (offset, now));
        self.by_offset.insert(offset, name.clone());
        Some(self.block.at(offset))
    }

    fn forget_oldest(&mut self, now: Instant) -> Option<()> {
        let (name, (offset, asked)) = self.by_name.iter().min_by_key(|(_, (_, asked))| *asked)?;
        if now.saturating_duration_since(*asked) < FORGET {
            return None;
        }
        let (name, offset) = (name.clone(), *offset);
        self.by_name.remove(&name);
        self.by_offset.remove(&offset);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_gets_a_block_of_the_upper_half_and_its_names_addresses_there() {
        let mut domains = Domains::default();
        assert_eq!(domains.assign(layout(10, 64).as_ref(), &set(&["corp", "lab"])), []);
        let block = domains.block(&name("corp")).unwrap();
        assert_eq!((block.v4.1, block.v6.1), (20, 116));
        assert!((96..128).contains(&block.v4.0.octets()[1]), "{block:?}");
        assert_ne!(Some(block), domains.block(&name("lab")));

        let now = Instant::now();
        let db = domains.addresses(&name("corp"), &name("db.corp"), now).unwrap();
        assert_eq!(domains.addresses(&name("corp"), &name("db.corp"), now), Some(db));
        assert_ne!(domains.addresses(&name("corp"), &name("web.corp"), now), Some(db));
        for address in db.iter() {
            assert_eq!(domains.name_of(address), Some(&name("db.corp")));
        }
        assert_eq!(domains.name_of("192.0.2.1".parse().unwrap()), None);
        assert_eq!(domains.domain_of(&name("a.b.corp")), Some(name("corp")));
        assert_eq!(domains.domain_of(&name("corp")), None);
    }

    #[test]
    fn names_and_blocks_are_the_same_in_another_table_and_stay_while_others_come_and_go() {
        let layout = layout(10, 64);
        let (mut one, mut other) = (Domains::default(), Domains::default());
        one.assign(layout.as_ref(), &set(&["corp"]));
        other.assign(layout.as_ref(), &set(&["corp", "lab"]));
        let now = Instant::now();
        let ask = |domains: &mut Domains| domains.addresses(&name("corp"), &name("db.corp"), now);
        let before = ask(&mut one);
        assert_eq!(before, ask(&mut other));
        one.assign(layout.as_ref(), &set(&["corp", "x"]));
        assert_eq!(before, ask(&mut one));
        one.assign(layout.as_ref(), &set(&["x"]));
        assert_eq!(ask(&mut one), None);
    }

    #[test]
    fn a_full_block_gives_only_the_addresses_of_names_not_asked_for_lately() {
        let mut domains = Domains::default();
        domains.assign(layout(24, 64).as_ref(), &set(&["corp"]));
        let (mut ask, now) = (
            |host: &str, now| domains.addresses(&name("corp"), &name(&format!("{host}.corp")), now),
            Instant::now(),
        );
        for host in 0..6 {
            assert!(ask(&format!("h{host}"), now).is_some(), "{host}");
        }
        let late = now + FORGET;
        assert_eq!(ask("late", late - Duration::from_secs(1)), None);
        assert!(ask("h0", late).is_some());
        let [h1, new] = [ask("h1", now), ask("new", late)];
        assert!(h1.is_some() && new.is_some());
    }

    #[test]
    fn ranges_without_room_have_no_blocks() {
        for (v4, v6) in [(26, 64), (32, 64), (10, 123), (10, 128)] {
            assert!(layout(v4, v6).is_none(), "{v4} {v6}");
            assert_eq!(Domains::default().assign(None, &set(&["corp"])), [name("corp")]);
        }
        let small = layout(25, 64).unwrap();
        assert_eq!((small.bits, small.blocks), (2, 16));
    }

    fn layout(v4: u8, v6: u8) -> Option<Layout> {
        Layout::of(SyntheticRanges {
            v4: (Ipv4Addr::new(100, 64, 0, 0), v4),
            v6: (Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0), v6),
        })
    }

    fn set(names: &[&str]) -> BTreeSet<HostName> {
        names.iter().map(|text| name(text)).collect()
    }

    fn name(text: &str) -> HostName {
        HostName::try_from(text).unwrap()
    }
}
