//! Named sets of addresses or ports.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
};

use crate::{
    decode::Malformed,
    names::SetName,
    node::{Key, Node, Value},
    ports::PortRange,
    prefix::Prefix,
    reader::Reader,
    set_file,
};

/// What rules name together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Set {
    /// Addresses and prefixes of both families; at least one.
    Addresses(Vec<Prefix>),
    /// Ports and port ranges; at least one.
    Ports(Vec<PortRange>),
}

/// What is in sets.
pub trait Element: Clone + fmt::Display + Sized {
    /// What a set with such elements is called.
    const KIND: &'static str;

    /// The elements of a set, if it is one of these.
    fn of(set: &Set) -> Option<&[Self]>;
}

impl Element for Prefix {
    const KIND: &'static str = "a set of addresses";

    fn of(set: &Set) -> Option<&[Self]> {
        match set {
            Set::Addresses(prefixes) => Some(prefixes),
            Set::Ports(_) => None,
        }
    }
}

impl Element for PortRange {
    const KIND: &'static str = "a set of ports";

    fn of(set: &Set) -> Option<&[Self]> {
        match set {
            Set::Ports(ports) => Some(ports),
            Set::Addresses(_) => None,
        }
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<BTreeMap<SetName, Set>> {
    let mut sets = BTreeMap::new();
    let mut is_complete = true;
    for (key, node) in reader.entries(node)? {
        let entry = reader.under(&key.text, |reader| {
            let name = name(reader, &key);
            let set = set(reader, node);
            Some((name?, set?))
        });
        is_complete &= entry.is_some();
        sets.extend(entry);
    }
    is_complete.then_some(sets)
}

fn name(reader: &mut Reader<'_>, key: &Key) -> Option<SetName> {
    match SetName::check(&key.text) {
        Ok(name) => Some(name),
        Err(Malformed { expected, remedy }) => {
            reader.report(key.line, format!("the key {:?}", key.text), expected, remedy);
            None
        }
    }
}

fn set(reader: &mut Reader<'_>, node: Node) -> Option<Set> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let addresses = reader.optional(&mut section, "addresses", |reader, node| match node.value {
        Value::Map(_) => set_file::decode(reader, node, Prefix::check),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Text(_) | Value::List(_) => {
            elements(reader, node, Prefix::decode)
        }
    });
    let ports = reader.optional(&mut section, "ports", |reader, node| match node.value {
        Value::Map(_) => set_file::decode(reader, node, PortRange::check),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Text(_) | Value::List(_) => {
            elements(reader, node, PortRange::decode)
        }
    });
    reader.close(section);
    match (addresses?, ports?) {
        (Some(addresses), None) => Some(Set::Addresses(addresses)),
        (None, Some(ports)) => Some(Set::Ports(ports)),
        (None, None) | (Some(_), Some(_)) => {
            let remedy = "add what is missing, or make two sets of it";
            reader.report(line, "neither or both of them", "addresses or ports", remedy);
            None
        }
    }
}

/// Decodes elements, none of which may be there twice.
fn elements<T: Clone + Eq + fmt::Display + Hash>(
    reader: &mut Reader<'_>,
    node: Node,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Vec<T>> {
    let elements = reader.one_or_more(node, |reader, node| {
        let line = node.line;
        decode(reader, node).map(|element| (line, element))
    })?;
    let mut lines: HashMap<T, u32> = HashMap::with_capacity(elements.len());
    let mut is_complete = true;
    for (index, (line, element)) in elements.iter().enumerate() {
        if let Some(first) = lines.insert(element.clone(), *line) {
            reader.element(index, |reader| {
                let found = format!("{element} again, first on line {first}");
                reader.report(*line, found, "each entry once", "remove one of the two");
            });
            is_complete = false;
        }
    }
    is_complete.then(|| elements.into_iter().map(|(_, element)| element).collect())
}
