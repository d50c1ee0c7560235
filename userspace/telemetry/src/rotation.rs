//! A file of lines that is closed at a size, with those before it kept.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// Longest piece of a line that an interrupted write may have left, in bytes.
const LONGEST_PIECE: u64 = 4 * 1024 * 1024;

/// A file that lines are added to. At its size it is renamed, `events.jsonl` to `events.1.jsonl` and so on, and another
/// one begun; whoever follows it by its inode reads every line.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    files: u32,
    max_bytes: u64,
    /// What each file begins with, if these are no lines.
    head: Vec<u8>,
    /// The file that is written to, and its length.
    open: Option<(File, u64)>,
}

impl RotatingFile {
    /// At most so many files, of so many bytes each, or of one line if that is longer. Nothing is opened yet.
    pub fn new(path: PathBuf, files: u32, max_bytes: u64) -> Self {
        Self { path, files, max_bytes, head: Vec::new(), open: None }
    }

    /// Likewise, of files that each begin with `head` and hold whole pieces of any kind. None is gone on with: the first
    /// piece begins another.
    pub fn with_head(self, head: Vec<u8>) -> Self {
        Self { head, ..self }
    }

    /// The same, with nothing opened yet.
    pub(crate) fn unopened(&self) -> Self {
        let Self { path, files, max_bytes, head, .. } = self;
        Self { head: head.clone(), ..Self::new(path.clone(), *files, *max_bytes) }
    }

    /// Adds a line, with its end, or a piece. After an error, the next one opens the file anew.
    ///
    /// # Errors
    /// The file cannot be written, renamed or opened.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.try_append(line);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.open.is_none() {
            self.open()?;
        }
        if self.open.as_ref().is_some_and(|(_, has)| *has > 0 && has + length > self.max_bytes) {
            self.rotate()?;
            self.open()?;
        }
        if let Some((file, has)) = &mut self.open {
            file.write_all(line)?;
            *has += length;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if self.head.is_empty() {
            self.open = Some(open(&self.path)?);
            return Ok(());
        }
        if self.path.exists() {
            self.rotate()?;
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::options().create_new(true).append(true).open(&self.path)?;
        file.write_all(&self.head)?;
        self.open = Some((file, self.head.len() as u64));
        Ok(())
    }

    /// The file becomes the first of those before it; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.files <= 1 {
            return fs::remove_file(&self.path);
        }
        for age in (0..self.files - 1).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The file, or the one that was closed so many before it.
    pub fn path(&self, age: u32) -> PathBuf {
        if age == 0 {
            return self.path.clone();
        }
        let mut name = self.path.file_stem().map(OsString::from).unwrap_or_default();
        name.push(format!(".{age}"));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }
}

/// Opens the file to go on with it. What a crash has left of a line is cut off: every line of the file can be read.
fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let tail = length.min(LONGEST_PIECE);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    (&mut file).take(tail).read_to_end(&mut bytes)?;
    let piece = bytes.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
    file.set_len(length - piece)?;
    Ok((file, length - piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut three = RotatingFile::new(folder.path().join("new/a.jsonl"), 3, 6);
        for number in 10..17 {
            three.append(format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines(&three.path(0)), ["16"]);
        assert_eq!(lines(&folder.path().join("new/a.1.jsonl")), ["14", "15"]);
        assert_eq!(lines(&three.path(2)), ["12", "13"]);
        assert!(!three.path(3).exists());

        let mut one = RotatingFile::new(folder.path().join("plain"), 1, 6);
        assert_eq!(one.path(1), folder.path().join("plain.1"));
        for number in 10..13 {
            one.append(format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines(&one.path(0)), ["12"]);
        assert!(!one.path(1).exists());
        one.append(b"a line longer than a file\n").unwrap();
        assert_eq!(lines(&one.path(0)), ["a line longer than a file"]);
    }

    #[test]
    fn files_of_pieces_begin_with_their_head_and_are_never_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let file =
            || RotatingFile::new(folder.path().join("a/c.bin"), 3, 6).with_head(b"HEAD".to_vec());
        let mut first = file();
        for piece in [b"1\n", b"22", b"33"] {
            first.append(piece).unwrap();
        }
        let content = |age| fs::read_to_string(first.path(age)).unwrap();
        assert_eq!(
            (content(0), content(1), content(2)),
            ("HEAD33".into(), "HEAD22".into(), "HEAD1\n".into())
        );
        file().append(b"4").unwrap();
        assert_eq!(
            (content(0), content(1), content(2)),
            ("HEAD4".into(), "HEAD33".into(), "HEAD22".into())
        );
    }

    #[test]
    fn what_a_crash_left_of_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "1\n{\"version\":1,\"num").unwrap();
        let mut file = RotatingFile::new(path.clone(), 2, 1_000);
        file.append(b"2\n").unwrap();
        assert_eq!(lines(&path), ["1", "2"]);
    }
}
