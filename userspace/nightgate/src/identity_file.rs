//! Identity files whose keys may be encrypted.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::ensure;
use nightgate_identity::{Identity, IdentityError, Passphrase, PassphraseError};

use crate::management::ask_hidden;

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
        let text = ask_hidden("Passphrase for the key: ")?;
        let again = !io::stdin().is_terminal() || ask_hidden("Once more: ")? == text;
        ensure!(again, "the two passphrases differ; nothing was done");
        Ok(Some(Passphrase::new(&text)?))
    }
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
    let loaded = match Identity::load(path) {
        Err(IdentityError::Passphrase { source: PassphraseError::Needed, .. })
            if io::stdin().is_terminal() =>
        {
            let text = ask_hidden(&format!("Passphrase of {}: ", path.display()))?;
            Identity::load_with(path, &Passphrase::new(&text)?)
        }
        loaded => loaded,
    };
    Ok(loaded?)
}
