//! Second factors: one-time passwords by time (RFC 6238), and recovery codes for whoever has lost the device.

use nightgate_model::id::IdentityId;
use nightgate_pki::{Seal, SealError};
use nightgate_store::{Mfa, Timestamp};
use serde::{Deserialize, Serialize};
use totp_rs::{Algorithm, Builder, Secret, Totp};

/// Who the factor is for, as authenticator apps show it.
const ISSUER: &str = "Nightgate";

/// What authenticator apps take when they are told nothing else, and some whatever they are told: SHA-1, six digits,
/// thirty seconds (RFC 6238 section 4 and appendix A).
const ALGORITHM: Algorithm = Algorithm::SHA1;
const DIGITS: u8 = 6;
const STEP: u64 = 30;

/// Steps that a clock may be wrong by, in both directions (RFC 6238 section 5.2 recommends one at most).
const SKEW: u16 = 1;

/// Shortest and longest code, for clients that ask for one: digits, and recovery codes.
pub(crate) const LENGTHS: (usize, usize) = (DIGITS as usize, RECOVERY_LENGTH);

/// Recovery codes of a factor; each is good once.
const RECOVERY_CODES: usize = 20;

/// Characters of a recovery code, five random bits each.
const RECOVERY_LENGTH: usize = 8;

/// Without those that look alike.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// What proves a second factor.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Factor {
    /// Base32, as authenticator apps read it.
    secret: String,
    /// Recovery codes that are left.
    pub(crate) recovery_codes: Vec<String>,
}

/// What a code was.
pub(crate) enum Used {
    /// That of a time step.
    Step(u64),
    /// A recovery code; what is left of the factor without it.
    Recovery(Factor),
}

impl Factor {
    /// A new secret, and recovery codes for it.
    pub(crate) fn generate() -> Self {
        Self { secret: Secret::generate().to_base32(), recovery_codes: new_recovery_codes() }
    }

    /// With other recovery codes.
    pub(crate) fn with_new_recovery_codes(self) -> Self {
        Self { recovery_codes: new_recovery_codes(), ..self }
    }

    /// As it is kept for an identity.
    pub(crate) fn seal(&self, seal: &Seal, identity: &IdentityId) -> Result<Vec<u8>, SealError> {
        seal.seal(identity.as_str(), &serde_json::to_vec(self).or(Err(SealError))?)
    }

    /// Reads what is kept.
    pub(crate) fn open(seal: &Seal, mfa: &Mfa) -> Result<Self, SealError> {
        let opened = seal.open(mfa.identity.as_str(), &mfa.sealed)?;
        serde_json::from_slice(&opened).or(Err(SealError))
    }

    /// What an authenticator app is set up with: an `otpauth:` address with the secret in it.
    pub(crate) fn provisioning_url(&self, name: &str) -> Option<String> {
        self.totp(name)?.to_url().ok()
    }

    /// The time step that a code is of, if it is right at this moment.
    pub(crate) fn step(&self, code: &str, now: Timestamp) -> Option<u64> {
        self.totp("")?.check(code, u64::try_from(now.0 / 1000).ok()?)
    }

    /// What a code is, if it is right at this moment and was not used before; codes up to `last_step` were.
    pub(crate) fn accept(&self, code: &str, last_step: u64, now: Timestamp) -> Option<Used> {
        let code = code.trim();
        if let Some(step) = self.step(code, now) {
            return (step > last_step).then_some(Used::Step(step));
        }
        let code = code.to_ascii_uppercase();
        let left: Vec<_> =
            self.recovery_codes.iter().filter(|known| **known != code).cloned().collect();
        (left.len() < self.recovery_codes.len())
            .then(|| Used::Recovery(Self { secret: self.secret.clone(), recovery_codes: left }))
    }

    fn totp(&self, name: &str) -> Option<Totp> {
        let name = if name.is_empty() { "identity".into() } else { name.replace(':', "-") };
        Builder::new()
            .with_algorithm(ALGORITHM)
            .with_digits(DIGITS)
            .with_step_duration(STEP)
            .with_skew(SKEW)
            .with_secret(Secret::try_from_base32(&self.secret).ok()?)
            .with_issuer(Some(ISSUER))
            .with_account_name(name)
            .build()
            .ok()
    }
}

fn new_recovery_codes() -> Vec<String> {
    let code = || {
        // The bytes at both ends are random in all their bits (RFC 9562 section 5.4).
        let bytes = *uuid::Uuid::new_v4().as_bytes();
        let ends = bytes[..4].iter().chain(&bytes[12..]);
        ends.map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
    };
    std::iter::repeat_with(code).take(RECOVERY_CODES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B: the secret, and the last six digits of its SHA-1 rows.
    #[test]
    fn codes_are_those_of_the_rfc_good_once_and_for_a_minute_and_a_half() {
        let secret = Secret::from(b"12345678901234567890".to_vec()).to_base32();
        let factor = Factor { secret, recovery_codes: vec!["ABCDEFGH".into()] };
        let accept = |code, last, seconds: i64| {
            let used = factor.accept(code, last, Timestamp(seconds * 1000));
            used.map(|used| if let Used::Step(step) = used { Some(step) } else { None })
        };
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let step = u64::try_from(seconds / 30).unwrap();
            assert_eq!(accept(code, 0, seconds), Some(Some(step)));
            assert_eq!(accept(code, step - 1, seconds + 30), Some(Some(step)), "a slow clock");
            assert_eq!(accept(code, step, seconds), None, "it was used");
            assert_eq!(accept(code, 0, seconds + 90), None, "it is too old");
        }
        for wrong in ["", "28708", "2870820", "ABCDEFG", "ü87082"] {
            assert_eq!(accept(wrong, 0, 59), None, "{wrong}");
        }
        let Some(Used::Recovery(left)) = factor.accept(" abcdefgh", 9, Timestamp(0)) else {
            panic!("a recovery code is a code")
        };
        assert!(left.accept("ABCDEFGH", 0, Timestamp(0)).is_none(), "it was used");
    }

    #[test]
    fn a_new_factor_has_codes_of_its_own_and_an_address_for_apps() {
        let (one, other) = (Factor::generate(), Factor::generate());
        assert_ne!(one.secret, other.secret);
        let codes: std::collections::BTreeSet<_> =
            one.recovery_codes.iter().chain(&other.recovery_codes).collect();
        assert_eq!(codes.len(), 2 * RECOVERY_CODES);
        assert!(codes.iter().all(|code| code.len() == RECOVERY_LENGTH));
        let url = one.provisioning_url("a:b c").unwrap();
        assert!(url.starts_with("otpauth://totp/Nightgate:a-b%20c?secret="), "{url}");
        assert!(url.contains(&one.secret) && url.contains("issuer=Nightgate"), "{url}");
    }
}
