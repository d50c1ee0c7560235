//! A sum over a replica that changes with every entry, and is kept up to date at the cost of what changes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Sum, modulo 2^128, of the hashes of a replica's entries: the first 16 bytes of SHA-256 over the name of the part,
/// the key and the entry as JSON.
///
/// It finds copies that have gone apart, by mistakes and broken disks. It proves nothing against somebody who
/// chooses the entries: copies travel over authenticated channels.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(u128);

/// A text that is no digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest has 32 hexadecimal digits")]
pub struct NoDigest;

impl Digest {
    /// Counts an entry in.
    pub(crate) fn add(
        &mut self,
        part: &str,
        key: &impl Serialize,
        entry: &(impl Serialize + ?Sized),
    ) {
        self.0 = self.0.wrapping_add(hash(part, key, entry));
    }

    /// Takes an entry out that has been counted in.
    pub(crate) fn remove(
        &mut self,
        part: &str,
        key: &impl Serialize,
        entry: &(impl Serialize + ?Sized),
    ) {
        self.0 = self.0.wrapping_sub(hash(part, key, entry));
    }
}

fn hash(part: &str, key: &impl Serialize, entry: &(impl Serialize + ?Sized)) -> u128 {
    let text = serde_json::to_vec(&(part, key, entry)).expect("maps of entries have text keys");
    let hash = Sha256::digest(text);
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(first)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_whole);
        number.map(Self).ok_or(NoDigest)
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}
