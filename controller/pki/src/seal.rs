//! Secrets that have to be read again, encrypted where they are kept: whoever has the database alone has none of them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{Context, SHA256},
};

use rcgen::KeyPair;

use crate::{
    PkiError,
    directory::KeyFile,
    pair::{KeyKind, load_key, make_key},
};

/// Says what the key is made for, so that nothing else made of the same private key is the same.
const PURPOSE: &[u8] = b"nightgate seal v1";

/// Seals secrets with AES-256-GCM. Its key is made of a private key that is kept with the others, and encrypted as they
/// are.
pub struct Seal(RandomizedNonceKey);

/// A secret that was sealed with another key or for something else, or is damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a secret in the database was sealed with another key, or is damaged; restore pki/seal.key from a backup"
)]
pub struct SealError;

impl Seal {
    /// Reads the key from its file, or makes it.
    pub(crate) fn open_key(file: &KeyFile) -> Result<Self, PkiError> {
        let key = match load_key(file, KeyKind::P256)? {
            Some(key) => key,
            None => make_key(file, KeyKind::P256)?,
        };
        Ok(Self::of(&key))
    }

    fn of(key: &KeyPair) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(PURPOSE);
        hash.update(&key.serialize_der());
        let key = RandomizedNonceKey::new(&AES_256_GCM, hash.finish().as_ref());
        Self(key.expect("SHA-256 gives as many bytes as AES-256 wants"))
    }

    /// Seals a secret that belongs to `owner`: a nonce, then what is encrypted with its tag.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn seal(&self, owner: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = secret.to_vec();
        let aad = Aad::from(owner.as_bytes());
        let nonce = self.0.seal_in_place_append_tag(aad, &mut sealed).or(Err(SealError))?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for `owner`.
    ///
    /// # Errors
    /// It was not, or is damaged.
    pub fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<12>().ok_or(SealError)?;
        let (nonce, mut rest) = (Nonce::assume_unique_for_key(*nonce), rest.to_vec());
        let aad = Aad::from(owner.as_bytes());
        let length = self.0.open_in_place(nonce, aad, &mut rest).or(Err(SealError))?.len();
        rest.truncate(length);
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directory;

    #[test]
    fn a_secret_is_opened_by_its_key_for_its_owner_alone_and_a_restart_keeps_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::from(dir.path());
        let seal = Seal::open_key(&directory.key("seal")).unwrap();
        let sealed = seal.seal("alice", b"secret").unwrap();
        let again = Seal::open_key(&directory.key("seal")).unwrap();
        assert_eq!(again.open("alice", &sealed).unwrap(), b"secret");
        assert_eq!(again.open("bob", &sealed), Err(SealError));
        let other = Seal::open_key(&directory.key("other")).unwrap();
        assert_eq!(other.open("alice", &sealed), Err(SealError));
        for length in 0..sealed.len() {
            assert_eq!(seal.open("alice", &sealed[..length]), Err(SealError));
        }
        assert_ne!(sealed, seal.seal("alice", b"secret").unwrap());
    }
}
