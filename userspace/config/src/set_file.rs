//! Sets in files of their own: an entry on each line, comments from `#` or `;` to the end of a line.

use std::{collections::HashMap, fmt, hash::Hash};

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// Lines of one file that errors are reported for one by one.
const REPORTED: usize = 50;

/// Decodes `{ file: PATH }` to the entries of that file.
pub(crate) fn decode<T: Clone + Eq + fmt::Display + Hash>(
    reader: &mut Reader<'_>,
    node: Node,
    check: impl Fn(&str) -> Result<T, Malformed>,
) -> Option<Vec<T>> {
    let mut section = reader.section(node)?;
    let line = section.line_of("file");
    let path = reader.required(&mut section, "file", decode::text);
    reader.close(section);
    let path = path?;
    match reader.content(&path) {
        Ok(text) => reader.in_file(&path, |reader| entries(reader, &text, check)),
        Err(error) => {
            reader.under("file", |reader| {
                let found = format!("{path}: {}", error.found);
                reader.report(line, found, "a file with an entry on each line", error.remedy);
            });
            None
        }
    }
}

/// The entries of a file, each once and at least one: a list that a download has cut short says something else.
fn entries<T: Clone + Eq + fmt::Display + Hash>(
    reader: &mut Reader<'_>,
    text: &str,
    check: impl Fn(&str) -> Result<T, Malformed>,
) -> Option<Vec<T>> {
    let mut entries = Vec::new();
    let mut lines: HashMap<T, u32> = HashMap::new();
    let mut wrong = Vec::new();
    // Some editors put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, entry) in (1..).zip(text.lines()) {
        let entry = entry.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let (found, expected, remedy) = match check(entry) {
            Ok(value) => match lines.insert(value.clone(), line) {
                None => {
                    entries.push(value);
                    continue;
                }
                Some(first) => {
                    let found = format!("{value} again, first on line {first}");
                    (found, "each entry once", "remove one of the two".into())
                }
            },
            Err(Malformed { expected, remedy }) => (shortened(entry), expected, remedy),
        };
        wrong.push(line);
        if wrong.len() <= REPORTED {
            reader.report(line, found, expected, remedy);
        }
    }
    if let Some(line) = wrong.get(REPORTED) {
        let found = format!("{} lines with errors from here on", wrong.len() - REPORTED);
        reader.report(*line, found, "an entry on each line", "correct those above first");
    }
    if wrong.is_empty() && entries.is_empty() {
        let remedy = "add one, or remove the set and what names it";
        reader.report(1, "no entry", "at least one entry", remedy);
        return None;
    }
    wrong.is_empty().then_some(entries)
}

/// A line as errors show it.
fn shortened(entry: &str) -> String {
    /// Characters that are shown: an IPv6 prefix has 43.
    const SHOWN: usize = 60;
    let mut shown: String = entry.chars().take(SHOWN).collect();
    if shown.len() < entry.len() {
        shown.push_str("...");
    }
    format!("the text {shown:?}")
}
