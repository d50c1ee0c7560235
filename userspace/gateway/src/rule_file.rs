//! Configuration files with the files that they name.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nightgate_config::{Config, ConfigError, FileError, Files};
use serde::{Deserialize, Serialize};

/// A configuration file whose rules are meant, with all that it names: whoever has it needs no other file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its name, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
    /// Contents of the files that it names, by their paths as it writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// Largest file that a configuration may name, in bytes: room for the 100,000 entries of a set, with comments.
const LARGEST: u64 = 8 << 20;

impl RuleFile {
    /// A file that names no others.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), files: BTreeMap::new() }
    }

    /// Reads a file and those that it names, and parses it.
    ///
    /// # Errors
    /// The file itself cannot be read. What is wrong with it, or with those that it names, is in the second result.
    pub fn read(
        path: &Path,
        name: impl Into<String>,
    ) -> io::Result<(Self, Result<Config, Vec<ConfigError>>)> {
        let mut file = Self::new(name, fs::read_to_string(path)?);
        let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let mut disk = Disk { folder, read: BTreeMap::new() };
        let parsed = nightgate_config::parse_with(&file.text, &file.name, &mut disk);
        file.files = disk.read;
        Ok((file, parsed))
    }

    /// Parses it.
    ///
    /// # Errors
    /// Everything that is wrong with it and with the files that it names.
    pub fn parse(&self) -> Result<Config, Vec<ConfigError>> {
        nightgate_config::parse_with(&self.text, &self.name, &mut Given(&self.files))
    }
}

/// Files below a folder, and those that have been read.
struct Disk {
    folder: PathBuf,
    read: BTreeMap<String, String>,
}

impl Files for Disk {
    fn content(&mut self, path: &str) -> Result<String, FileError> {
        if let Some(text) = self.read.get(path) {
            return Ok(text.clone());
        }
        let text = content(&self.folder.join(path))?;
        self.read.insert(path.to_owned(), text.clone());
        Ok(text)
    }
}

fn content(path: &Path) -> Result<String, FileError> {
    let wrong = |found: String, remedy: &str| FileError { found, remedy: remedy.into() };
    let correct = "correct the path, which is relative to the configuration's folder, or the file's permissions";
    let failed = |error: io::Error| wrong(error.to_string(), correct);
    // Opening a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(wrong("no ordinary file".into(), correct));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(format!("more than {} MiB", LARGEST >> 20), "make two files of it"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + line.filter(|byte| **byte == b'\n').count();
        wrong(format!("no UTF-8 text on line {line}"), "write it as UTF-8")
    })
}

/// The files that came with a configuration.
struct Given<'a>(&'a BTreeMap<String, String>);

impl Files for Given<'_> {
    fn content(&mut self, path: &str) -> Result<String, FileError> {
        self.0.get(path).cloned().ok_or_else(|| FileError {
            found: "not sent with the configuration".into(),
            remedy: "use the nightgate command of the same version as the gateway".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] } }
sets:
  bad: { addresses: { file: bad.txt } }
  web: { ports: { file: web.txt } }
";

    #[test]
    fn a_file_is_complete_once_it_is_read() {
        let folder = folder(&[("gw.yaml", TEXT), ("bad.txt", "192.0.2.1\n"), ("web.txt", "443\n")]);
        let (file, parsed) = RuleFile::read(&folder.path().join("gw.yaml"), "gw.yaml").unwrap();
        drop(folder);

        let config = parsed.unwrap();
        assert_eq!(config.gateway.as_ref().unwrap().sets.len(), 2);
        assert_eq!(file.parse().unwrap(), config);
        let sent = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<RuleFile>(&sent).unwrap(), file);
        let other = RuleFile::new(file.name, file.text);
        assert!(!serde_json::to_string(&other).unwrap().contains("files"));
        assert!(other.parse().unwrap_err()[0].found.contains("not sent"));
    }

    #[test]
    fn files_that_cannot_be_read_are_all_named() {
        let folder = folder(&[("gw.yaml", TEXT)]);
        let errors = || {
            let (_, parsed) = RuleFile::read(&folder.path().join("gw.yaml"), "gw.yaml").unwrap();
            let errors = parsed.unwrap_err();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let text = errors();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("gw.yaml:6: sets.bad.addresses.file: bad.txt: No such file"),
            "{text}"
        );

        fs::create_dir(folder.path().join("bad.txt")).unwrap();
        fs::write(folder.path().join("web.txt"), b"80\n\xff\n").unwrap();
        let text = errors();
        assert!(text.contains("bad.txt: no ordinary file"), "{text}");
        assert!(text.contains("web.txt: no UTF-8 text on line 2"), "{text}");

        let large = "# comment\n".repeat(1 << 20);
        fs::write(folder.path().join("web.txt"), large).unwrap();
        assert!(errors().contains("web.txt: more than 8 MiB"), "{}", errors());
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }
}
