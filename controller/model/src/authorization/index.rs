//! Which rules select an entity, found by its attributes instead of by asking every rule.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use super::{Attributes, Rule};
use crate::{
    entity::{Role, Semantic},
    id::Identifier,
};

/// Numbers of the rules that select each entity, ascending. A copy shares everything with its original but what is
/// changed.
type Selected = rpds::HashTrieMapSync<String, Arc<[usize]>>;

/// Which entities of one side rules relate to which of the other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Relation {
    /// The number of each rule, for as long as it is among the rules: others that come or go change nothing of what is
    /// known of it.
    numbers: Arc<HashMap<Rule, usize>>,
    /// Greater than all numbers so far.
    next: usize,
    from: Selected,
    to: Selected,
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
        from: &Attributes<A>,
        to: &Attributes<B>,
    ) -> Self {
        let mut numbers = HashMap::new();
        for rule in rules {
            let next = numbers.len();
            numbers.entry(rule.clone()).or_insert(next);
        }
        let (from_side, to_side) = (Side::from(&numbers), Side::to(&numbers));
        Self {
            from: from_side.select(from),
            to: to_side.select(to),
            to_all: to_side.all.into(),
            next: numbers.len(),
            numbers: numbers.into(),
        }
    }

    /// Looks again at entities that came, went or got other attributes.
    pub(super) fn update<A: Identifier, B: Identifier>(
        &mut self,
        (from, changed_from): (&Attributes<A>, &[A]),
        (to, changed_to): (&Attributes<B>, &[B]),
    ) {
        if !changed_from.is_empty() {
            Side::from(&self.numbers).reselect(&mut self.from, from, changed_from);
        }
        if !changed_to.is_empty() {
            Side::to(&self.numbers).reselect(&mut self.to, to, changed_to);
        }
    }

    /// Takes rules out that are not among these, and brings in those that are new.
    pub(super) fn set_rules<A: Identifier, B: Identifier>(
        &mut self,
        rules: &[Rule],
        from: &Attributes<A>,
        to: &Attributes<B>,
    ) {
        let rules: HashSet<&Rule> = rules.iter().collect();
        let known = Arc::make_mut(&mut self.numbers);
        let gone = known.extract_if(|rule, _| !rules.contains(rule)).map(|(_, number)| number);
        let gone: HashSet<usize> = gone.collect();
        let mut new = HashMap::new();
        for rule in rules.into_iter().filter(|rule| !known.contains_key(*rule)) {
            new.insert(rule.clone(), self.next);
            self.next += 1;
        }
        let (from_side, to_side) = (Side::from(&new), Side::to(&new));
        from_side.exchange(&mut self.from, from, &gone);
        to_side.exchange(&mut self.to, to, &gone);
        self.to_all = exchanged(&self.to_all, &to_side.all, &gone);
        known.extend(new);
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
    fn from(rules: &'a HashMap<Rule, usize>) -> Self {
        Self::new(rules.iter().map(|(rule, number)| (*number, rule.semantic, rule.from.as_slice())))
    }

    fn to(rules: &'a HashMap<Rule, usize>) -> Self {
        Self::new(rules.iter().map(|(rule, number)| (*number, rule.semantic, rule.to.as_slice())))
    }

    fn new(rules: impl Iterator<Item = (usize, Semantic, &'a [Role])>) -> Self {
        let mut side = Self::default();
        for (number, semantic, roles) in rules {
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
        side.all.sort_unstable();
        side.all.dedup();
        side
    }

    /// Entities with the same attributes share their rules, unless a rule names one by id.
    fn select<I: Identifier>(&self, entities: &Attributes<I>) -> Selected {
        let mut shared: HashMap<&BTreeSet<String>, Arc<[usize]>> = HashMap::new();
        let mut selected = Selected::new_sync();
        for (id, attributes) in entities {
            let rules = || self.rules_of(id.text(), attributes).into();
            let rules: Arc<[usize]> = if self.ids.contains_key(id.text()) {
                rules()
            } else {
                Arc::clone(shared.entry(attributes).or_insert_with(rules))
            };
            selected.insert_mut(id.text().to_owned(), rules);
        }
        selected
    }

    /// As [`Self::select`], for some entities only.
    fn reselect<I: Identifier>(
        &self,
        selected: &mut Selected,
        entities: &Attributes<I>,
        changed: &[I],
    ) {
        for id in changed {
            match entities.get(id) {
                Some(attributes) => {
                    let rules = self.rules_of(id.text(), attributes).into();
                    selected.insert_mut(id.text().to_owned(), rules);
                }
                None => drop(selected.remove_mut(id.text())),
            }
        }
    }

    /// Takes rules out, and brings those of this side in. Entities that had the same rules share them afterwards too.
    fn exchange<I: Identifier>(
        &self,
        selected: &mut Selected,
        entities: &Attributes<I>,
        gone: &HashSet<usize>,
    ) {
        let mut shared: HashMap<(*const usize, Vec<usize>), Arc<[usize]>> = HashMap::new();
        let before = selected.clone();
        for (id, attributes) in entities {
            let Some(rules) = before.get(id.text()) else { continue };
            let new = self.rules_of(id.text(), attributes);
            if new.is_empty() && !rules.iter().any(|rule| gone.contains(rule)) {
                continue;
            }
            let entry = shared.entry((rules.as_ptr(), new));
            let after = match entry {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    let after = exchanged(rules, &entry.key().1, gone);
                    Arc::clone(entry.insert(after))
                }
            };
            selected.insert_mut(id.text().to_owned(), after);
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

/// A list without some rules, and with others.
fn exchanged(rules: &[usize], new: &[usize], gone: &HashSet<usize>) -> Arc<[usize]> {
    let left = rules.iter().filter(|rule| !gone.contains(rule));
    // Numbers only grow: the new ones are greater than all others.
    left.chain(new).copied().collect()
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
