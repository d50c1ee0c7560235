//! Files that a configuration names.

/// Gives the contents of files. [`crate::parse_with`] reads none itself.
pub trait Files {
    /// The content of a file, by its path as the configuration writes it.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn content(&mut self, path: &str) -> Result<String, FileError>;
}

/// A file that cannot be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileError {
    /// What is wrong with it.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

/// No file at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn content(&mut self, _path: &str) -> Result<String, FileError> {
        Err(FileError {
            found: "a file, where none can be read".into(),
            remedy: "write its entries here".into(),
        })
    }
}
