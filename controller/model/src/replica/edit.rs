//! What changed in one part of a replica.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::Digest;

/// What changed in a part whose entries have keys.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Edit<K, V> {
    /// Entries that are new or different.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    put: Vec<(K, V)>,
    /// Keys of entries that are gone.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    gone: Vec<K>,
}

impl<K, V> Default for Edit<K, V> {
    fn default() -> Self {
        Self { put: Vec::new(), gone: Vec::new() }
    }
}

/// A part whose entries have keys.
pub(crate) trait Part<K, V> {
    /// Puts an entry in the place of one that it gives back.
    fn put(&mut self, key: K, entry: V) -> Option<V>;

    /// Takes an entry out.
    fn take(&mut self, key: &K) -> Option<V>;
}

impl<K: Ord, V> Part<K, V> for BTreeMap<K, V> {
    fn put(&mut self, key: K, entry: V) -> Option<V> {
        self.insert(key, entry)
    }

    fn take(&mut self, key: &K) -> Option<V> {
        self.remove(key)
    }
}

impl<K: Ord, V: Clone> Part<K, V> for rpds::RedBlackTreeMapSync<K, V> {
    fn put(&mut self, key: K, entry: V) -> Option<V> {
        let before = self.get(&key).cloned();
        self.insert_mut(key, entry);
        before
    }

    fn take(&mut self, key: &K) -> Option<V> {
        let before = self.get(key).cloned();
        self.remove_mut(key);
        before
    }
}

impl<K: Clone + Ord, V> Edit<K, V> {
    /// Puts entries, and removes those that are none.
    pub(crate) fn new(entries: impl Iterator<Item = (K, Option<V>)>) -> Self {
        let mut edit = Self::default();
        for (key, entry) in entries {
            match entry {
                Some(entry) => edit.put.push((key, entry)),
                None => edit.gone.push(key),
            }
        }
        edit
    }

    /// What leads from one part to another; both are given in the order of their keys.
    pub(crate) fn between<'a, B: ?Sized + PartialEq + ToOwned<Owned = V> + 'a>(
        old: impl IntoIterator<Item = (K, &'a B)>,
        new: impl IntoIterator<Item = (K, &'a B)>,
    ) -> Self {
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        let mut edit = Self::default();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return edit,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((before, _)), Some((after, _))) => before.cmp(after),
            };
            let before = old.next_if(|_| order.is_le());
            let after = new.next_if(|_| order.is_ge());
            match (before, after) {
                (Some((key, _)), None) => edit.gone.push(key),
                (Some((_, before)), Some((_, after))) if before == after => {}
                (_, Some((key, after))) => edit.put.push((key, after.to_owned())),
                (None, None) => {}
            }
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }

    /// The keys of all entries that changed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.put.iter().map(|(key, _)| key).chain(&self.gone)
    }

    /// Changes a part, and the digest with it.
    pub(crate) fn apply<B: ?Sized + Serialize>(
        self,
        part: &mut impl Part<K, V>,
        name: &str,
        digest: &mut Digest,
    ) where
        K: Serialize,
        V: Borrow<B>,
    {
        for key in self.gone {
            if let Some(before) = part.take(&key) {
                digest.remove(name, &key, before.borrow());
            }
        }
        for (key, after) in self.put {
            digest.add(name, &key, after.borrow());
            if let Some(before) = part.put(key.clone(), after) {
                digest.remove(name, &key, before.borrow());
            }
        }
    }
}

/// What changed in a list: one stretch of it is replaced by another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Splice<T> {
    at: usize,
    gone: usize,
    put: Vec<T>,
}

impl<T: Clone + PartialEq> Splice<T> {
    /// What leads from one list to another; `None` if they are the same.
    pub(crate) fn between(old: &[T], new: &[T]) -> Option<Self> {
        if old == new {
            return None;
        }
        let same = |pair: &(&T, &T)| pair.0 == pair.1;
        let at = old.iter().zip(new).take_while(same).count();
        let (old, new) = (&old[at..], &new[at..]);
        let end = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
        Some(Self { at, gone: old.len() - end, put: new[..new.len() - end].to_vec() })
    }

    /// Changes a list; whether it was long enough.
    #[must_use]
    pub(crate) fn apply(self, list: &mut Vec<T>) -> bool {
        let Some(end) = self.at.checked_add(self.gone).filter(|end| *end <= list.len()) else {
            return false;
        };
        list.splice(self.at..end, self.put);
        true
    }
}
