//! What is wrong with a configuration.

/// One error in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}:{line}: {path}: {found}; expected {expected}: {remedy}")]
pub struct ConfigError {
    /// Name of the file, as given to [`crate::parse`].
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Where in the document, such as `rules[3].destination_ports[0]`; `file` for the whole.
    pub path: String,
    /// What is there.
    pub found: String,
    /// What could be there.
    pub expected: String,
    /// What to do.
    pub remedy: String,
}
