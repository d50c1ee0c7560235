//! Private keys that are encrypted where they are kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use nightgate_pki::{Authority, Directory, Passphrase, PkiError, check, roll_over};
use rustls_pki_types::ServerName;
use time::OffsetDateTime;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn directory(path: &Path, passphrase: &str) -> Directory {
    Directory::new(path, Some(Passphrase::new(passphrase).unwrap()))
}

fn names() -> [ServerName<'static>; 1] {
    [ServerName::try_from("ctrl.example").unwrap()]
}

fn open(directory: impl Into<Directory>) -> Result<Authority, PkiError> {
    Authority::open(directory, &names(), now())
}

/// The first line of every key file.
fn labels(path: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let keys = files.filter(|file| file.extension().is_some_and(|extension| extension == "key"));
    let label = |file: std::path::PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, text.lines().next().unwrap().to_owned())
    };
    keys.map(label).collect()
}

#[test]
fn with_a_passphrase_no_key_is_readable_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let plain = open(dir.path()).unwrap();
    assert!(labels(dir.path()).values().all(|label| label == "-----BEGIN PRIVATE KEY-----"));

    let sealed = open(directory(dir.path(), "correct horse")).unwrap();

    assert_eq!(sealed.trust_anchors(), plain.trust_anchors());
    assert_eq!(sealed.session_key().public_key_pem(), plain.session_key().public_key_pem());
    let labels = labels(dir.path());
    assert_eq!(labels.len(), 5);
    assert!(
        labels.values().all(|label| label == "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        "{labels:?}"
    );
    let refused = open(dir.path()).err().unwrap().to_string();
    assert!(
        refused.contains(".key") && refused.contains("NIGHTGATE_KEY_PASSPHRASE_FILE"),
        "{refused}"
    );
    let refused = open(directory(dir.path(), "battery staple")).err().unwrap().to_string();
    assert!(refused.contains("another passphrase"), "{refused}");
    assert_eq!(check(directory(dir.path(), "correct horse"), now()).unwrap(), [""; 0]);
    assert!(!check(dir.path(), now()).unwrap().is_empty());
}

#[test]
fn keys_that_come_later_are_encrypted_too() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = || directory(dir.path(), "correct horse");
    open(sealed()).unwrap();
    roll_over(sealed(), now()).unwrap();
    assert_eq!(open(sealed()).unwrap().trust_anchors().len(), 3);
    assert!(labels(dir.path()).values().all(|label| label.contains("ENCRYPTED")));
}
