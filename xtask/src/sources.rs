//! The Rust sources of the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// One source file.
pub(crate) struct SourceFile {
    /// Relative to the folder that was searched.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) text: String,
}

impl SourceFile {
    /// The part before the unit tests at the end of the file.
    pub(crate) fn without_tests(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default()
    }
}

/// All `.rs` files below a folder, ordered by path; build output and hidden folders are passed over.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                if !hidden && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("read {}", path.display()))?;
                let path = path.strip_prefix(root).map_or_else(|_| path.clone(), Path::to_path_buf);
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_output_and_hidden_folders_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b/two.rs", "a.rs", "target/three.rs", ".git/four.rs", "b/five.txt"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "fn f() {}\n\n#[cfg(test)]\nmod tests {}\n").unwrap();
        }

        let files = rust_files(folder.path()).unwrap();

        let paths: Vec<_> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["a.rs", "b/two.rs"]);
        assert_eq!(files[0].without_tests(), "fn f() {}\n");
    }
}
