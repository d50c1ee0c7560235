//! What rules ask of addresses and ports by sets, or by what they must not be.

use std::{collections::BTreeMap, fmt};

use crate::{
    names::SetName,
    node::{Node, Value},
    reader::Reader,
    sets::{Element, Set},
};

/// Whether a value has to be among others, or must not be.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Sense {
    /// It has to be.
    In,
    /// It must not be.
    NotIn,
}

/// A value has to be in one of some sets or among some elements, or in none of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership<T> {
    /// Which of the two.
    pub sense: Sense,
    /// The sets.
    pub sets: Vec<SetName>,
    /// The elements beside them.
    pub elements: Vec<T>,
}

/// What stands under `source`, `destination` and the keys for ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Selection<T> {
    /// Elements by themselves; empty if they do not restrict, or `members` says more.
    pub(crate) elements: Vec<T>,
    /// Sets, or what must not be.
    pub(crate) members: Option<Membership<T>>,
}

/// Element of a list.
enum Part<T> {
    Element(T),
    Set(SetName),
}

impl<T: Element> Selection<T> {
    /// Nothing restricts.
    pub(crate) const fn any() -> Self {
        Self { elements: Vec::new(), members: None }
    }

    /// Decodes an element, `$SET`, a list of them, or `{ not: ... }` of these. `sets` are the configured sets, or
    /// `None` if those are wrong, so that no rule is blamed for it.
    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        node: Node,
        sets: Option<&BTreeMap<SetName, Set>>,
        decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
    ) -> Option<Self> {
        let list = |reader: &mut Reader<'_>, node| Membership::decode(reader, node, sets, &decode);
        let members = if let Value::Map(_) = node.value {
            let mut section = reader.section(node)?;
            let members = reader.required(&mut section, "not", list);
            reader.close(section);
            Membership { sense: Sense::NotIn, ..members? }
        } else {
            list(reader, node)?
        };
        if members.sense == Sense::In && members.sets.is_empty() {
            return Some(Self { elements: members.elements, members: None });
        }
        Some(Self { elements: Vec::new(), members: Some(members) })
    }
}

fn part<T: Element>(
    reader: &mut Reader<'_>,
    node: Node,
    sets: Option<&BTreeMap<SetName, Set>>,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Part<T>> {
    let Some(name) = node.value.set_name().map(str::to_owned) else {
        return decode(reader, node).map(Part::Element);
    };
    let name = SetName::decode(reader, Node { line: node.line, value: Value::Text(name) })?;
    let Some(sets) = sets else { return Some(Part::Set(name)) };
    let found = match sets.get(&name) {
        Some(set) if T::of(set).is_some() => return Some(Part::Set(name)),
        Some(_) => format!("the set {name}, which holds something else"),
        None => format!("the unknown set {name}"),
    };
    reader.report(node.line, found, T::KIND, "correct the name, or add the set under sets");
    None
}

impl<T: Element> Membership<T> {
    /// Decodes an element, `$SET`, or a list of them: what has to be among them. `sets` as in [`Selection::decode`].
    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        node: Node,
        sets: Option<&BTreeMap<SetName, Set>>,
        decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
    ) -> Option<Self> {
        let parts = reader.one_or_more(node, |reader, node| part(reader, node, sets, &decode))?;
        let mut members = Self { sense: Sense::In, sets: Vec::new(), elements: Vec::new() };
        for part in parts {
            match part {
                Part::Element(element) => members.elements.push(element),
                Part::Set(name) => members.sets.push(name),
            }
        }
        Some(members)
    }

    /// Everything that is named: the elements, and those of the sets that there are.
    pub fn members<'a>(
        &'a self,
        sets: &'a BTreeMap<SetName, Set>,
    ) -> impl Iterator<Item = &'a T> + 'a {
        let named = self.sets.iter().filter_map(|name| sets.get(name).and_then(T::of)).flatten();
        self.elements.iter().chain(named)
    }
}

impl<T: fmt::Display> fmt::Display for Membership<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sense == Sense::NotIn {
            f.write_str("not ")?;
        }
        let elements = self.elements.iter().map(ToString::to_string);
        let names = elements.chain(self.sets.iter().map(|name| format!("${name}")));
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}
