//! A file of JSON lines.

use std::io;

use nightgate_config::RecordFile;
use nightgate_telemetry::RotatingFile;

use crate::record::Line;

/// A file of JSON lines.
#[derive(Debug)]
pub(crate) struct FileSink(Option<RotatingFile>);

impl FileSink {
    pub(crate) fn new(file: &RecordFile) -> Self {
        Self(Some(RotatingFile::new(file.path.clone(), file.files, file.size)))
    }

    /// Writes lines with their ends, on a thread that may block.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn deliver(&mut self, lines: &[Line<'_>]) -> io::Result<()> {
        let Some(mut file) = self.0.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let text: String = lines.iter().map(|line| line.text.as_str()).collect();
        let work = move || {
            let written = file.append(text.as_bytes());
            (file, written)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((file, written)) => {
                self.0 = Some(file);
                written
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
