//! Identity files whose keys may be encrypted.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::ensure;
use nightgate_identity::{Identity, IdentityError, Passphrase, PassphraseError};

use crate::{management::ask_hidden, output::print_text};

/// Whether a new identity file is encrypted.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EncryptArgs {
    /// Encrypt the private key in the file; whoever uses it needs the passphrase
    ///
    /// The passphrase comes from the file that NIGHTGATE_KEY_PASSPHRASE_FILE names, from the systemd credential
    /// nightgate-key-passphrase, or from NIGHTGATE_KEY_PASSPHRASE, and then counts without this flag too; else it is
    /// asked for. Programs find it in the same places. OpenZiti's own clients do not read such files.
    #[arg(long)]
    encrypt: bool,
}

impl EncryptArgs {
    /// What to encrypt with; asks for it before anything else happens.
    pub(crate) fn passphrase(&self) -> anyhow::Result<Option<Passphrase>> {
        let given = Passphrase::from_environment()?;
        if given.is_some() || !self.encrypt {
            return Ok(given);
        }
        ask_new().map(Some)
    }
}

/// `nightgate identity passphrase`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nightgate identity passphrase alice.json                                asks for both
  nightgate identity passphrase alice.json --new-passphrase-file new.txt
  nightgate identity passphrase alice.json --remove")]
pub(crate) struct PassphraseArgs {
    /// The identity file, of whoever: an identity, a router or a gateway
    file: PathBuf,
    /// File with the new passphrase; without it, it is asked for, or is the next line of standard input
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    new_passphrase_file: Option<PathBuf>,
    /// Keep the key without a passphrase
    #[arg(long)]
    remove: bool,
}

impl PassphraseArgs {
    /// Encrypts the key of a file anew.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let before = open(&self.file, true)?;
        let had_one = before.is_encrypted();
        if self.remove {
            if !had_one {
                return print_text(&format!("{shown} has no passphrase"));
            }
            before.decrypted().save(&self.file)?;
            return print_text(&format!("{shown} has no passphrase any more"));
        }
        let new = match &self.new_passphrase_file {
            Some(file) => Passphrase::from_file(file)?,
            None => ask_new()?,
        };
        before.encrypted(new)?.save(&self.file)?;
        print_text(&format!("{shown} has a {}passphrase", if had_one { "new " } else { "" }))
    }
}

/// A passphrase that a terminal is asked for twice.
fn ask_new() -> anyhow::Result<Passphrase> {
    let text = ask_hidden("New passphrase: ")?;
    ensure!(!text.is_empty(), "the new passphrase is empty; nothing was done");
    let again = !io::stdin().is_terminal() || ask_hidden("Once more: ")? == text;
    ensure!(again, "the two passphrases differ; nothing was done");
    Ok(Passphrase::new(&text)?)
}

/// Writes an identity file, encrypted if there is a passphrase.
pub(crate) fn save(
    identity: Identity,
    path: &Path,
    passphrase: Option<Passphrase>,
) -> anyhow::Result<()> {
    let identity = match passphrase {
        Some(passphrase) => identity.encrypted(passphrase)?,
        None => identity,
    };
    Ok(identity.save(path)?)
}

/// Reads an identity file; at a terminal, asks for a passphrase that is nowhere else.
pub(crate) fn load(path: &Path) -> anyhow::Result<Identity> {
    open(path, io::stdin().is_terminal())
}

/// Reads an identity file; may ask standard input for a passphrase that is nowhere else.
fn open(path: &Path, may_ask: bool) -> anyhow::Result<Identity> {
    let loaded = match Identity::load(path) {
        Err(IdentityError::Passphrase { source: PassphraseError::Needed, .. }) if may_ask => {
            let text = ask_hidden(&format!("Passphrase of {}: ", path.display()))?;
            ensure!(!text.is_empty(), "{} needs a passphrase, and none was given", path.display());
            Identity::load_with(path, &Passphrase::new(&text)?)
        }
        loaded => loaded,
    };
    Ok(loaded?)
}
