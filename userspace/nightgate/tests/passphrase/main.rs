//! Keys in identity files, encrypted with a passphrase.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

const NIGHTGATE: &str = env!("CARGO_BIN_EXE_nightgate");

/// Runs a command line with this passphrase in its environment.
fn run(folder: &Path, passphrase: Option<&str>, line: &str) -> Output {
    let mut command = Command::new(NIGHTGATE);
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null());
    command.env_remove("NIGHTGATE_IDENTITY").env_remove("NIGHTGATE_KEY_PASSPHRASE");
    if let Some(passphrase) = passphrase {
        command.env("NIGHTGATE_KEY_PASSPHRASE", passphrase);
    }
    command.output().unwrap()
}

#[test]
fn the_first_administrators_key_is_encrypted_like_the_controllers_and_opened_by_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let init = format!("controller init --dir ctrl --address {address}");
    let made = run(folder.path(), Some("correct horse"), &init);
    assert!(made.status.success(), "{made:?}");
    let file = fs::read_to_string(folder.path().join("ctrl/admin.json")).unwrap();
    assert!(file.contains("BEGIN ENCRYPTED PRIVATE KEY"));
    // No controller runs: who has the key gets as far as that.
    for (passphrase, said) in [
        (None, "NIGHTGATE_KEY_PASSPHRASE_FILE"),
        (Some("battery staple"), "another passphrase"),
        (Some("correct horse"), "cannot be reached"),
    ] {
        let refused =
            run(folder.path(), passphrase, "identity list --identity-file ctrl/admin.json");
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains(said), "{text}");
    }
}
