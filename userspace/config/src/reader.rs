//! Walking a document: where we are, and every error on the way.

use std::path::Path;

use crate::{
    error::ConfigError,
    files::{FileError, Files},
    node::{Key, Node, Value},
};

/// Collects errors while the document is decoded.
pub(crate) struct Reader<'a> {
    /// The configuration.
    root: &'a str,
    /// The file that is being decoded: the configuration or one that it names.
    file: String,
    files: &'a mut dyn Files,
    path: Vec<String>,
    errors: Vec<ConfigError>,
}

/// A map that is being decoded.
pub(crate) struct Section {
    line: u32,
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a str, files: &'a mut dyn Files) -> Self {
        Self { root: file, file: file.into(), files, path: Vec::new(), errors: Vec::new() }
    }

    /// The content of a file that the configuration names.
    pub(crate) fn content(&mut self, path: &str) -> Result<String, FileError> {
        self.files.content(path)
    }

    /// Decodes what is in a file that the configuration names by a path relative to its own.
    pub(crate) fn in_file<T>(&mut self, path: &str, decode: impl FnOnce(&mut Self) -> T) -> T {
        let folder = Path::new(self.root).parent().unwrap_or_else(|| Path::new(""));
        let file = folder.join(path).display().to_string();
        let outer = std::mem::replace(&mut self.file, file);
        let value = decode(self);
        self.file = outer;
        value
    }

    /// The value if nothing was wrong with the document, else the errors by line, those of the files that it names
    /// last.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<ConfigError>> {
        let is_other = |error: &ConfigError| error.file != self.root;
        self.errors
            .sort_by(|a, b| (is_other(a), &a.file, a.line).cmp(&(is_other(b), &b.file, b.line)));
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            Some(_) | None => Err(self.errors),
        }
    }

    /// Records an error at the current path.
    pub(crate) fn report(
        &mut self,
        line: u32,
        found: impl Into<String>,
        expected: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let path = if self.path.is_empty() { "file".into() } else { self.path.concat() };
        self.errors.push(ConfigError {
            file: self.file.clone(),
            line,
            path,
            found: found.into(),
            expected: expected.into(),
            remedy: remedy.into(),
        });
    }

    /// Decodes what stands under a key of the current map.
    pub(crate) fn under<T>(&mut self, key: &str, decode: impl FnOnce(&mut Self) -> T) -> T {
        let step = if self.path.is_empty() { key.to_owned() } else { format!(".{key}") };
        self.step(step, decode)
    }

    /// Decodes an element of the current list.
    pub(crate) fn element<T>(&mut self, index: usize, decode: impl FnOnce(&mut Self) -> T) -> T {
        self.step(format!("[{index}]"), decode)
    }

    fn step<T>(&mut self, step: String, decode: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let value = decode(self);
        self.path.pop();
        value
    }

    /// Takes a node as a map with keys of its own choice.
    pub(crate) fn entries(&mut self, node: Node) -> Option<Vec<(Key, Node)>> {
        match node.value {
            Value::Map(entries) => Some(entries),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Text(_) | Value::List(_) => {
                self.report(node.line, node.value.describe(), "a map", "write key: value lines");
                None
            }
        }
    }

    /// Takes a node as a map with known keys. [`Reader::close`] reports the others.
    pub(crate) fn section(&mut self, node: Node) -> Option<Section> {
        let line = node.line;
        Some(Section { line, entries: self.entries(node)?, known: Vec::new() })
    }

    /// Decodes a key that has to be there.
    pub(crate) fn required<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        decode: impl FnOnce(&mut Self, Node) -> Option<T>,
    ) -> Option<T> {
        match section.take(key) {
            Some(node) => self.under(key, |reader| decode(reader, node)),
            None => {
                let line = section.line;
                self.under(key, |reader| {
                    reader.report(line, "missing", "a value", format!("add the key {key}"));
                });
                None
            }
        }
    }

    /// Decodes a key that may be absent. The outer `None` means that it is there and wrong.
    pub(crate) fn optional<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        decode: impl FnOnce(&mut Self, Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match section.take(key) {
            Some(node) => self.under(key, |reader| decode(reader, node)).map(Some),
            None => Some(None),
        }
    }

    /// Reports the keys of a section that nothing asked for.
    pub(crate) fn close(&mut self, section: Section) {
        for (key, _) in section.entries {
            let expected = format!("one of {}", section.known.join(", "));
            self.under(&key.text, |reader| {
                reader.report(key.line, "unknown key", expected, "correct or remove the key");
            });
        }
    }

    /// Decodes each element of a list.
    pub(crate) fn list<T>(
        &mut self,
        node: Node,
        mut decode: impl FnMut(&mut Self, Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = node.value else {
            self.report(node.line, node.value.describe(), "a list", "write [a, b] or - lines");
            return None;
        };
        let decoded: Vec<Option<T>> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| self.element(index, |reader| decode(reader, item)))
            .collect();
        decoded.into_iter().collect()
    }

    /// Decodes a list of at least one element, or a single element in its place.
    pub(crate) fn one_or_more<T>(
        &mut self,
        node: Node,
        decode: impl Fn(&mut Self, Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.report(node.line, "an empty list", "at least one element", "add one");
                None
            }
            Value::List(_) => self.list(node, decode),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Text(_) | Value::Map(_) => {
                decode(self, node).map(|value| vec![value])
            }
        }
    }
}

impl Section {
    /// Line the section starts on.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Whether a key is there and nobody has asked for it yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(candidate, _)| candidate.text == key)
    }

    /// The line of a key, or that of the map if it is absent.
    pub(crate) fn line_of(&self, key: &str) -> u32 {
        self.entries
            .iter()
            .find(|(candidate, _)| candidate.text == key)
            .map_or(self.line, |(_, node)| node.line)
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let index = self.entries.iter().position(|(candidate, _)| candidate.text == key)?;
        Some(self.entries.remove(index).1)
    }
}
