//! A rotating file that async code writes to.

use std::io;

use tokio::task::spawn_blocking;

use crate::RotatingFile;

/// A [`RotatingFile`] that is written on threads that may block.
#[derive(Debug)]
pub struct LineFile(RotatingFile);

impl LineFile {
    /// That of a file.
    pub fn new(file: RotatingFile) -> Self {
        Self(file)
    }

    /// Adds lines with their ends, as [`RotatingFile::append`] does one after the other, up to the first error.
    ///
    /// # Errors
    /// The file cannot be written, renamed or opened.
    pub async fn append<T>(&mut self, lines: Vec<T>) -> io::Result<()>
    where
        T: AsRef<[u8]> + Send + 'static,
    {
        // Should nobody wait for the end of this, the next lines open the file anew.
        let unopened = self.0.unopened();
        let mut file = std::mem::replace(&mut self.0, unopened);
        let work = move || {
            let written = lines.iter().try_for_each(|line| file.append(line.as_ref()));
            (file, written)
        };
        match spawn_blocking(work).await {
            Ok((file, written)) => {
                self.0 = file;
                written
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_added_in_their_order_and_an_error_ends_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lines");
        let mut file = LineFile::new(RotatingFile::new(path.clone(), 2, 1 << 20));
        file.append(vec!["1\n", "2\n"]).await.unwrap();
        file.append(vec![b"3\n".to_vec()]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");

        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "in the way").unwrap();
        let mut file = LineFile::new(RotatingFile::new(blocked.join("lines"), 2, 1 << 20));
        file.append(vec!["1\n"]).await.unwrap_err();
        std::fs::remove_file(&blocked).unwrap();
        file.append(vec!["2\n"]).await.unwrap();
        assert_eq!(std::fs::read_to_string(blocked.join("lines")).unwrap(), "2\n");
    }
}
