//! What is odd about rules that are not wrong: rules that decide nothing, contradict each other or accept more
//! than one would think.
//!
//! What is said here is proved, never guessed: a rule called shadowed decides no packet. What cannot be proved
//! cheaply is not said.

mod cover;
mod finding;
mod nat;
mod sense;

use std::collections::{BTreeMap, BTreeSet};

use nightgate_config::{Action, Gateway};

use self::finding::LARGEST_LIST;
pub use self::finding::{Finding, Kind, Place, Severity};
use crate::{
    compile::{CompiledRule, RuleSet},
    overlap::{self, Overlaps, Search},
    region::{self, Fidelity, Region, Regions},
};

/// Finds what is odd about the rules of a gateway, in the order of the rules.
pub fn lint(gateway: &Gateway, rules: &RuleSet) -> Vec<Finding> {
    let places = gateway.rules.iter().map(|rule| Place::new(&rule.id, rule.line));
    let world = World::new(rules.rules(), places.collect());
    let mut findings = Vec::new();
    for rule in 0..world.rules.len() {
        let never = sense::never_matches(&world, rule);
        if world.action(rule) == Action::Count {
            findings.extend(never);
            continue;
        }
        match never.or_else(|| world.shadow(rule)) {
            Some(dead) => findings.push(dead),
            None => {
                findings.extend(world.redundancy(rule));
                findings.extend(world.contradiction(rule));
            }
        }
        findings.extend(sense::wide_accept(gateway, &world, rule));
    }
    findings.extend(nat::findings(gateway, rules));
    findings.extend(sense::unused_zones(gateway));
    if world.overlaps.search == Search::CutShort {
        findings.push(Finding::cut_short());
    }
    findings
}

/// The rules with all that is known of them.
struct World<'a> {
    rules: &'a [CompiledRule],
    places: Vec<Place>,
    regions: Vec<Region>,
    /// Rule by region.
    owner: Vec<u32>,
    /// First region of each rule, and the number of all.
    first: Vec<usize>,
    fidelity: Vec<Fidelity>,
    overlaps: Overlaps,
    /// Regions that meet each region and belong to other rules, in their order.
    neighbours: Vec<Vec<u32>>,
}

impl<'a> World<'a> {
    fn new(rules: &'a [CompiledRule], places: Vec<Place>) -> Self {
        let mut world = Self {
            rules,
            places,
            regions: Vec::new(),
            owner: Vec::new(),
            first: vec![0],
            fidelity: Vec::new(),
            overlaps: Overlaps::default(),
            neighbours: Vec::new(),
        };
        let mut all = Regions::new();
        for (index, rule) in (0..).zip(rules) {
            let (mut regions, fidelity) = all.of(rule);
            if rule.action == Action::Count {
                // It decides nothing, so it is in the way of no other.
                regions.clear();
            }
            world.owner.extend(regions.iter().map(|_| index));
            world.regions.extend(regions);
            world.first.push(world.regions.len());
            world.fidelity.push(fidelity);
        }
        world.overlaps = overlap::find(&world.regions);
        world.neighbours = world.neighbours();
        world
    }

    fn neighbours(&mut self) -> Vec<Vec<u32>> {
        let mut neighbours = vec![Vec::new(); self.regions.len()];
        for (a, b) in std::mem::take(&mut self.overlaps.pairs) {
            if self.owner[a as usize] != self.owner[b as usize] {
                neighbours[a as usize].push(b);
                neighbours[b as usize].push(a);
            }
        }
        neighbours.iter_mut().for_each(|list: &mut Vec<u32>| list.sort_unstable());
        neighbours
    }

    fn own(&self, rule: usize) -> std::ops::Range<usize> {
        self.first[rule]..self.first[rule + 1]
    }

    fn rule_of(&self, region: u32) -> usize {
        self.owner[region as usize] as usize
    }

    fn action(&self, rule: usize) -> Action {
        self.rules[rule].action
    }

    /// Whether it makes no difference which of two rules decides. Each limit is one of its own.
    fn decide_alike(&self, one: usize, other: usize) -> bool {
        let is_limited = |rule: usize| {
            let rule = &self.rules[rule];
            rule.limit.is_some() || rule.connections.is_some()
        };
        let is_logged_alike = self.rules[one].log == self.rules[other].log;
        self.action(one) == self.action(other)
            && is_logged_alike
            && !is_limited(one)
            && !is_limited(other)
    }

    /// Whether a rule matches all that another matches within a region of both.
    fn covers_by_regions(&self, wide: usize, narrow: usize) -> bool {
        match self.fidelity[wide] {
            Fidelity::Exact => true,
            Fidelity::Narrowed => region::allows(&self.rules[wide], &self.rules[narrow]),
            Fidelity::Within => false,
        }
    }

    /// Earlier rules that match everything this one matches, each where it is the first to do so; and whether it is one
    /// that matches the same.
    fn covering(&self, rule: usize) -> Option<(BTreeSet<usize>, bool)> {
        let mut by = BTreeSet::new();
        let mut is_same_match = self.fidelity[rule] != Fidelity::Within;
        for own in self.own(rule) {
            let region = &self.regions[own];
            let earlier = self.neighbours[own]
                .iter()
                .take_while(|other| self.rule_of(**other) < rule)
                .filter(|other| self.covers_by_regions(self.rule_of(**other), rule));
            let earlier = earlier.map(|other| (*other, &self.regions[*other as usize]));
            let used = cover::cover(region, earlier.clone())?;
            is_same_match &= used.len() == 1 && self.regions[used[0] as usize] == *region;
            by.extend(used.iter().map(|other| self.rule_of(*other)));
        }
        let (own, rules) = (&self.rules[rule], self.rules);
        is_same_match &= by.iter().all(|other| region::allows(own, &rules[*other]));
        is_same_match &=
            by.len() == 1 && by.iter().all(|other| self.own(*other).len() == self.own(rule).len());
        Some((by, is_same_match))
    }

    /// A rule that decides nothing, because earlier ones do.
    fn shadow(&self, rule: usize) -> Option<Finding> {
        let (by, is_same_match) = self.covering(rule)?;
        let same_action = by.iter().all(|other| self.decide_alike(*other, rule));
        let (place, list) = (&self.places[rule], self.list(by));
        Some(match (same_action, is_same_match) {
            (true, _) => Finding::repeated(place, list),
            (false, true) => Finding::conflict(place, list),
            (false, false) => Finding::shadowed(place, list),
        })
    }

    /// A later rule, or the default, that decides alike everything that this one decides.
    fn redundancy(&self, rule: usize) -> Option<Finding> {
        if self.overlaps.search == Search::CutShort {
            return None;
        }
        let mut by = BTreeSet::new();
        for own in self.own(rule) {
            let later = &self.neighbours[own];
            let later = &later[later.partition_point(|other| self.rule_of(*other) <= rule)..];
            let mut is_covered = false;
            for other in later {
                let other_rule = self.rule_of(*other);
                if !self.decide_alike(other_rule, rule) {
                    return None;
                }
                if self.covers_by_regions(other_rule, rule)
                    && self.regions[*other as usize].covers(&self.regions[own])
                {
                    is_covered = true;
                    by.insert(other_rule);
                    break;
                }
            }
            if !is_covered && self.action(rule) != Action::Drop {
                return None;
            }
        }
        Some(if by.is_empty() {
            Finding::like_default(&self.places[rule])
        } else {
            Finding::covered_later(&self.places[rule], self.list(by))
        })
    }

    /// Earlier rules with another action that match a part of what this one matches, while neither is within
    /// the other: the order of the two decides, which is easily overlooked.
    fn contradiction(&self, rule: usize) -> Option<Finding> {
        let mut meets: BTreeMap<usize, bool> = BTreeMap::new();
        for own in self.own(rule) {
            let region = &self.regions[own];
            for other in &self.neighbours[own] {
                let other_rule = self.rule_of(*other);
                if other_rule >= rule {
                    break;
                }
                let is_exact =
                    [rule, other_rule].map(|rule| self.fidelity[rule]) == [Fidelity::Exact; 2];
                if is_exact && self.action(other_rule) != self.action(rule) {
                    let other = &self.regions[*other as usize];
                    let is_nested = region.covers(other) || other.covers(region);
                    *meets.entry(other_rule).or_insert(true) &= is_nested;
                }
            }
        }
        let partial = meets.iter().filter(|(_, nested)| !**nested).map(|(other, _)| *other);
        let partial = partial.collect::<BTreeSet<_>>();
        (!partial.is_empty()).then(|| Finding::partial(&self.places[rule], self.list(partial)))
    }

    fn list(&self, rules: BTreeSet<usize>) -> (Vec<Place>, usize) {
        let places = rules.iter().take(LARGEST_LIST).map(|rule| self.places[*rule].clone());
        (places.collect(), rules.len())
    }
}
