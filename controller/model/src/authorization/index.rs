//! Which rules select an entity, found by its attributes instead of by asking every rule.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Rule;
use crate::{
    entity::{Role, Semantic},
    id::Identifier,
};

/// Which entities of one side rules relate to which of the other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Relation {
    /// Numbers of the rules that select an entity, ascending.
    from: HashMap<String, Arc<[usize]>>,
    to: HashMap<String, Arc<[usize]>>,
    /// Numbers of the rules that select every entity of the other side.
    to_all: Arc<[usize]>,
}

/// Rules by what selects an entity on one side.
#[derive(Default)]
struct Side<'a> {
    all: Vec<usize>,
    ids: HashMap<&'a str, Vec<usize>>,
    any_of: HashMap<&'a str, Vec<usize>>,
    all_of: HashMap<&'a str, Vec<usize>>,
    /// How many attributes each rule with [`Semantic::AllOf`] asks for.
    wanted: HashMap<usize, usize>,
}

impl Relation {
    pub(super) fn new<A: Identifier, B: Identifier>(
        rules: &[Rule],
        from: &BTreeMap<A, BTreeSet<String>>,
        to: &BTreeMap<B, BTreeSet<String>>,
    ) -> Self {
        let from_side = Side::new(rules.iter().map(|rule| (rule.semantic, rule.from.as_slice())));
        let to_side = Side::new(rules.iter().map(|rule| (rule.semantic, rule.to.as_slice())));
        Self { from: from_side.select(from), to: to_side.select(to), to_all: to_side.all.into() }
    }

    /// Looks again at entities that came, went or got other attributes.
    pub(super) fn update<A: Identifier, B: Identifier>(
        &mut self,
        rules: &[Rule],
        (from, changed_from): (&BTreeMap<A, BTreeSet<String>>, &[A]),
        (to, changed_to): (&BTreeMap<B, BTreeSet<String>>, &[B]),
    ) {
        let from_side = Side::new(rules.iter().map(|rule| (rule.semantic, rule.from.as_slice())));
        let to_side = Side::new(rules.iter().map(|rule| (rule.semantic, rule.to.as_slice())));
        from_side.reselect(&mut self.from, from, changed_from);
        to_side.reselect(&mut self.to, to, changed_to);
    }

    /// Whether a rule relates the two, both known.
    pub(super) fn relates(&self, from: &str, to: &str) -> bool {
        self.meets(self.rules_from(from), to)
    }

    /// As [`Self::relates`], where an unknown entity of the other side is one without attributes.
    pub(super) fn relates_any(&self, from: &str, to: &str) -> bool {
        let to = self.to.get(to).map_or(&*self.to_all, |rules| rules);
        have_common(self.rules_from(from), to)
    }

    /// The rules that select an entity.
    pub(super) fn rules_from(&self, from: &str) -> &[usize] {
        self.from.get(from).map_or(&[], |rules| rules)
    }

    /// The rules that select at least one of these entities, ascending.
    pub(super) fn rules_from_any<'a>(&self, from: impl Iterator<Item = &'a str>) -> Vec<usize> {
        // Entities with the same attributes share their rules: few lists are looked at.
        let lists = from.filter_map(|from| self.from.get(from));
        let lists: HashMap<*const usize, _> = lists.map(|list| (list.as_ptr(), list)).collect();
        let rules: BTreeSet<usize> = lists.values().flat_map(|list| list.iter().copied()).collect();
        rules.into_iter().collect()
    }

    /// Whether one of the rules selects an entity of the other side.
    pub(super) fn meets(&self, rules: &[usize], to: &str) -> bool {
        self.to.get(to).is_some_and(|to| have_common(rules, to))
    }
}

impl<'a> Side<'a> {
    fn new(rules: impl Iterator<Item = (Semantic, &'a [Role])>) -> Self {
        let mut side = Self::default();
        for (number, (semantic, roles)) in rules.enumerate() {
            let mut attributes = BTreeSet::new();
            for role in roles {
                match role {
                    Role::All => side.all.push(number),
                    Role::Id(id) => side.ids.entry(id).or_default().push(number),
                    Role::Attribute(attribute) => drop(attributes.insert(attribute.as_str())),
                }
            }
            let by_attribute = match semantic {
                Semantic::AnyOf => &mut side.any_of,
                Semantic::AllOf => {
                    side.wanted.insert(number, attributes.len());
                    &mut side.all_of
                }
            };
            for attribute in attributes {
                by_attribute.entry(attribute).or_default().push(number);
            }
        }
        side.all.dedup();
        side
    }

    /// Entities with the same attributes share their rules, unless a rule names one by id.
    fn select<I: Identifier>(
        &self,
        entities: &BTreeMap<I, BTreeSet<String>>,
    ) -> HashMap<String, Arc<[usize]>> {
        let mut shared: HashMap<&BTreeSet<String>, Arc<[usize]>> = HashMap::new();
        let mut selected = HashMap::with_capacity(entities.len());
        for (id, attributes) in entities {
            let rules = || self.rules_of(id.text(), attributes).into();
            let rules: Arc<[usize]> = if self.ids.contains_key(id.text()) {
                rules()
            } else {
                Arc::clone(shared.entry(attributes).or_insert_with(rules))
            };
            selected.insert(id.text().to_owned(), rules);
        }
        selected
    }

    /// As [`Self::select`], for some entities only.
    fn reselect<I: Identifier>(
        &self,
        selected: &mut HashMap<String, Arc<[usize]>>,
        entities: &BTreeMap<I, BTreeSet<String>>,
        changed: &[I],
    ) {
        for id in changed {
            match entities.get(id) {
                Some(attributes) => {
                    let rules = self.rules_of(id.text(), attributes).into();
                    selected.insert(id.text().to_owned(), rules);
                }
                None => drop(selected.remove(id.text())),
            }
        }
    }

    /// The rules that select one entity, ascending.
    fn rules_of(&self, id: &str, attributes: &BTreeSet<String>) -> Vec<usize> {
        let mut rules = self.all.clone();
        rules.extend(self.ids.get(id).into_iter().flatten());
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for attribute in attributes {
            rules.extend(self.any_of.get(attribute.as_str()).into_iter().flatten());
            for rule in self.all_of.get(attribute.as_str()).into_iter().flatten() {
                *counts.entry(*rule).or_default() += 1;
            }
        }
        rules
            .extend(counts.into_iter().filter(|(rule, n)| self.wanted[rule] == *n).map(|(r, _)| r));
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

fn have_common(a: &[usize], b: &[usize]) -> bool {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => drop(a.next()),
            std::cmp::Ordering::Greater => drop(b.next()),
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}
