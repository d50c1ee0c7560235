//! A file of JSON lines.

use std::io;

use nightgate_config::RecordFile;
use nightgate_telemetry::{LineFile, RotatingFile};

use crate::record::Line;

/// A file of JSON lines.
#[derive(Debug)]
pub(crate) struct FileSink(LineFile);

impl FileSink {
    pub(crate) fn new(file: &RecordFile) -> Self {
        Self(LineFile::new(RotatingFile::new(file.path.clone(), file.files, file.size)))
    }

    /// Writes lines with their ends.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn deliver(&mut self, lines: &[Line<'_>]) -> io::Result<()> {
        let text: String = lines.iter().map(|line| line.text.as_str()).collect();
        self.0.append(vec![text]).await
    }
}
