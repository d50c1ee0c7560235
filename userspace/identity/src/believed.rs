//! Certificate chains that were verified a moment ago: two gateways prove themselves to each other for every circuit,
//! and verifying a chain costs more than everything else of that.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ProvenIdentity;

/// A verification counts for this long, in seconds.
const TIME: u64 = 60;

/// Chains that are remembered. Only those that were issued by the authority are.
const MOST: usize = 4_096;

/// The chains, by their bytes.
#[derive(Default)]
pub(crate) struct Believed(Mutex<HashMap<Vec<u8>, Entry>>);

struct Entry {
    /// Seconds since the Unix epoch: when it was verified, and until when it counts.
    since: u64,
    until: u64,
    proven: ProvenIdentity,
}

impl Believed {
    /// Whose chain this is, if it was verified not long before `now`.
    pub(crate) fn find(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<ProvenIdentity> {
        let entries = self.lock();
        let entry = entries.get(&bytes(chain))?;
        (entry.since..entry.until).contains(&now.as_secs()).then(|| entry.proven.clone())
    }

    /// Remembers a chain that was verified at `now`, but not beyond the end of one of its certificates.
    pub(crate) fn add(&self, chain: &[CertificateDer<'_>], now: UnixTime, proven: &ProvenIdentity) {
        let since = now.as_secs();
        let ends = chain.iter().map(|certificate| end(certificate).unwrap_or_default());
        let until = ends.chain([since + TIME]).min().unwrap_or_default();
        let mut entries = self.lock();
        if entries.len() >= MOST {
            entries.retain(|_, entry| (entry.since..entry.until).contains(&since));
        }
        if entries.len() < MOST {
            entries.insert(bytes(chain), Entry { since, until, proven: proven.clone() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificates one after the other, each behind its length.
fn bytes(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chain.iter().map(|certificate| certificate.len() + 8).sum());
    for certificate in chain {
        bytes.extend_from_slice(&certificate.len().to_le_bytes());
        bytes.extend_from_slice(certificate);
    }
    bytes
}

/// The end of a certificate's validity, in seconds since the Unix epoch.
fn end(certificate: &[u8]) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    parsed.validity().not_after.timestamp().try_into().ok()
}
