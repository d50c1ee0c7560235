//! Passwords: argon2id hashes, and how often somebody may guess.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use argon2::{
    Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _, password_hash::SaltString,
};
use nightgate_model::auth::{LONGEST_PASSWORD, SHORTEST_PASSWORD};
use nightgate_store::Timestamp;
use tokio::sync::Semaphore;

/// Hashes computed at one time; each takes 19 MiB (RFC 9106 memory m, as OWASP advises for argon2id).
const PARALLEL: usize = 2;

/// Usernames with failures that are remembered; beyond, the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Shortest and longest password, in bytes.
const LENGTH: std::ops::RangeInclusive<u16> = SHORTEST_PASSWORD..=LONGEST_PASSWORD;

/// A password that is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too short or too long.
    #[error("a password has {} to {} bytes", LENGTH.start(), LENGTH.end())]
    Length,
    /// It cannot be hashed.
    #[error("hash the password: {0}")]
    Hash(argon2::password_hash::Error),
}

/// Hashes passwords and counts failures.
pub(crate) struct Passwords {
    slots: Semaphore,
    /// Compared with when there is no such username, so that the answer takes as long.
    nobody: Arc<OnceLock<String>>,
    failures: Mutex<HashMap<String, Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
    /// When they are forgotten.
    until: Timestamp,
}

/// How often somebody may guess.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Failures in a row after which a username is refused for a while.
    pub(crate) failures: u32,
    /// For how long, in milliseconds.
    pub(crate) lockout: i64,
}

impl Passwords {
    /// No failures yet.
    pub(crate) fn new() -> Self {
        Self { slots: Semaphore::new(PARALLEL), nobody: Arc::default(), failures: Mutex::default() }
    }

    /// The hash of a new password, in the PHC string format.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        if !u16::try_from(password.len()).is_ok_and(|length| LENGTH.contains(&length)) {
            return Err(PasswordError::Length);
        }
        self.compute(move || hash_now(&password)).await
    }

    /// Whether the password is the one with this hash; takes as long if there is no hash. Never while the username is
    /// locked out, which an unknown one can be as well; nobody can tell from how long it takes.
    pub(crate) async fn verify(
        &self,
        username: &str,
        password: String,
        hash: Option<&str>,
        bounds: Bounds,
        now: Timestamp,
    ) -> bool {
        let is_locked_out = self.is_locked_out(username, bounds, now);
        let hash = hash.filter(|_| !is_locked_out);
        let (exists, hash) = (hash.is_some(), hash.map(str::to_owned));
        let nobody = Arc::clone(&self.nobody);
        let is_right = self
            .compute(move || {
                let hash = hash.unwrap_or_else(|| nobody.get_or_init(hash_of_nobody).clone());
                let parsed = PasswordHash::new(&hash);
                parsed.is_ok_and(|hash| {
                    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
                })
            })
            .await;
        let is_right = is_right && exists;
        if !is_locked_out {
            self.count(username, is_right, bounds, now);
        }
        is_right
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn is_locked_out(&self, username: &str, bounds: Bounds, now: Timestamp) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(username)
            .is_some_and(|f| f.count >= bounds.failures && now.0 - f.last.0 < bounds.lockout)
    }

    fn count(&self, username: &str, is_right: bool, bounds: Bounds, now: Timestamp) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            failures.remove(username);
            return;
        }
        failures.retain(|_, known| now < known.until);
        if failures.len() >= MAX_REMEMBERED {
            let oldest = failures.iter().min_by_key(|(_, known)| known.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                failures.remove(&oldest);
            }
        }
        let until = Timestamp(now.0 + bounds.lockout);
        let new = Failures { count: 0, last: now, until };
        let known = failures.entry(username.to_owned()).or_insert(new);
        known.count += 1;
        (known.last, known.until) = (now, until);
    }
}

fn hash_of_nobody() -> String {
    hash_now(&uuid::Uuid::new_v4().to_string()).expect("argon2 hashes any short text")
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    // 122 random bits from the system's source.
    let salt =
        SaltString::encode_b64(uuid::Uuid::new_v4().as_bytes()).map_err(PasswordError::Hash)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(PasswordError::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Bounds = Bounds { failures: 5, lockout: 5 * 60_000 };

    #[tokio::test]
    async fn the_right_password_is_refused_too_after_too_many_wrong_ones() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        let try_at = async |password: &str, at: i64| {
            passwords.verify("admin", password.into(), Some(&hash), FIVE, Timestamp(at)).await
        };
        assert!(try_at("correct horse", 0).await);
        for at in 1..=5 {
            assert!(!try_at("battery staple", at).await);
        }
        assert!(!try_at("correct horse", 6).await, "locked out");
        assert!(try_at("correct horse", 6 + FIVE.lockout).await);
        let nobody =
            passwords.verify("nobody", "correct horse".into(), None, FIVE, Timestamp(0)).await;
        assert!(!nobody);
        assert!(passwords.hash("short".into()).await.is_err());
    }
}
