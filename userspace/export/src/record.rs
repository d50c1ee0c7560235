//! A record on its way.

/// A record that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// When it was made, RFC 3339.
    pub(crate) timestamp: String,
    /// The JSON object without its last brace.
    pub(crate) open: String,
}

/// A record as an output writes it.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// When it was made, RFC 3339.
    pub(crate) timestamp: &'a str,
    /// The JSON object, and the end of the line.
    pub(crate) text: String,
}

impl Waiting {
    /// The record with the number of those that were lost before it.
    pub(crate) fn line(&self, lost: u64) -> Line<'_> {
        let text = format!("{},\"lost\":{lost}}}\n", self.open);
        Line { timestamp: &self.timestamp, text }
    }
}
