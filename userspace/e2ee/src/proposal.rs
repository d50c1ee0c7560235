//! The dialer's side of an agreement on how to protect a circuit.

use std::time::Instant;

use nightgate_identity::ProvenIdentity;

use crate::{
    native::{self, Binding, Cipher, EarlySecret, Now},
    openziti::{KeyPair, PointPair, PublicKey},
    protection::{AgreementError, Own, Protection, Share},
};

/// Most bytes that go with a dial.
pub const MAX_EARLY_DATA: usize = 4 * 1024;

/// Most bytes that go with a dial together with what the dialer tells the host besides: all headers of the dial have to fit into
/// 16 KiB.
const MAX_WITH_APP_DATA: usize = 10 * 1024;

/// The dialer's side of an agreement, while the host has not answered.
pub struct Proposal {
    /// For OpenZiti's methods; none if this rests on an earlier handshake, which the host then needs to know of.
    keys: Option<Keys>,
    native: Option<Native>,
}

/// The dialer's share in the native method.
struct Native {
    dialing: native::Dialing,
    own: Own,
    service: String,
    instance: String,
}

/// The dialer's share in a method of OpenZiti's.
enum Keys {
    X25519(KeyPair),
    P256(PointPair),
}

impl Proposal {
    /// Proposes OpenZiti's method and, with credentials, the native one; or to rest on an earlier handshake with a host of
    /// this service ([`Self::resumed_peer`]).
    ///
    /// # Errors
    /// The system has no source of randomness, or the credentials' key does not sign.
    pub fn new(own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        match Self::resumed(own.as_ref(), binding) {
            Some(resumed) => Ok(resumed),
            None => Self::with(Keys::X25519(KeyPair::generate()?), own, binding),
        }
    }

    /// Proposes OpenZiti's method in the form for hosts started with AES-GCM and, with credentials, the
    /// native one, as [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn aes_gcm(own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        match Self::resumed(own.as_ref(), binding) {
            Some(resumed) => Ok(resumed),
            None => Self::with(Keys::P256(PointPair::generate()?), own, binding),
        }
    }

    fn resumed(own: Option<&Own>, binding: Binding<'_>) -> Option<Self> {
        let own = own?;
        let turn = own.lines.as_ref()?.turn(binding, Instant::now())?;
        let native = Native::new(native::Dialing::resume(turn, binding), own.clone(), binding);
        Some(Self { keys: None, native: Some(native) })
    }

    fn with(keys: Keys, own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        let native = own
            .map(|own| {
                let offered = (Cipher::offered_here(), own.lines.is_some());
                let key = keys.public_key();
                native::Dialing::start(&own.credentials, offered, binding, key)
                    .map(|dialing| Native::new(dialing, own, binding))
            })
            .transpose()?;
        Ok(Self { keys: Some(keys), native })
    }

    /// The host of this service with whom the earlier handshake was that this rests on, if it does. A host that does not
    /// know of it, or no longer, refuses; then tell [`Self::missed`], and propose anew.
    pub fn resumed_peer(&self) -> Option<&ProvenIdentity> {
        self.native.as_ref().and_then(|native| native.dialing.resumed_peer())
    }

    /// The host refused: for a while, proposals for this service rest on no earlier handshake.
    pub fn missed(self) {
        if let Some(Native { own: Own { lines: Some(lines), .. }, service, instance, .. }) =
            self.native
        {
            lines.missed(&service, &instance, Instant::now());
        }
    }

    /// What to send to the host.
    pub fn share(&self) -> Share {
        Share {
            public_key: self.keys.as_ref().map_or_else(Vec::new, |keys| keys.public_key().to_vec()),
            handshake: self
                .native
                .as_ref()
                .map_or_else(Vec::new, |native| native.dialing.offer().to_vec()),
        }
    }

    /// Seals as much of `data` as may go with a dial, under what an earlier circuit to the host has left: what this rests on,
    /// or else a secret. Returns how many bytes, and what to send; none if nothing may, or the native method is not proposed.
    ///
    /// # Errors
    /// The record could not be sealed.
    pub fn seal_early(
        &mut self,
        secret: Option<EarlySecret>,
        (data, app_data): (&[u8], &[u8]),
    ) -> Result<Option<(usize, Vec<u8>)>, AgreementError> {
        let room = MAX_WITH_APP_DATA.saturating_sub(app_data.len()).min(MAX_EARLY_DATA);
        let first = &data[..data.len().min(room)];
        let Some(native) = self.native.as_mut().filter(|_| !first.is_empty()) else {
            return Ok(None);
        };
        let sealed = native.dialing.seal_early(secret, first)?;
        Ok(sealed.map(|sealed| (first.len(), sealed.to_vec())))
    }

    /// The host says that it took what went with the dial: to be told before [`Self::complete`]. If it did not, what
    /// the ends seal from now on cannot be opened.
    pub fn early_taken(&mut self) {
        if let Some(native) = &mut self.native {
            native.dialing.early_taken();
        }
    }

    /// Completes the agreement with what the host sent. A host that does not know the native method
    /// leads to OpenZiti's: the caller decides by [`Protection::method`] whether that will do.
    ///
    /// # Errors
    /// The host sent no key, a weak one, or an answer that is not its answer to this proposal.
    pub fn complete(
        self,
        public_key: &[u8],
        handshake: &[u8],
    ) -> Result<Protection, AgreementError> {
        match (self.native, self.keys) {
            (Some(native), _) if !handshake.is_empty() => native.complete(handshake),
            (_, None) => Err(AgreementError::NoKey),
            (_, Some(_)) if public_key.is_empty() => Err(AgreementError::NoKey),
            (_, Some(Keys::X25519(keys))) => {
                Protection::open_ziti(keys.dialer_keys(&PublicKey::try_from(public_key)?)?)
            }
            (_, Some(Keys::P256(keys))) => {
                Ok(Protection::aes_gcm(keys.dialer_directions(public_key)?))
            }
        }
    }
}

impl Native {
    fn new(dialing: native::Dialing, own: Own, binding: Binding<'_>) -> Self {
        let Binding { service, instance, .. } = binding;
        Self { dialing, own, service: service.to_owned(), instance: instance.to_owned() }
    }

    fn complete(self, answer: &[u8]) -> Result<Protection, AgreementError> {
        let Self { dialing, own, service, instance } = self;
        let now = Now::read();
        let mut agreed = dialing.finish(&own.credentials, answer, now)?;
        if let (Some(lines), Some(line)) = (&own.lines, agreed.line.take()) {
            lines.keep_dialing(&service, &instance, line, now.instant);
        }
        Ok(agreed.into())
    }
}

impl Keys {
    fn public_key(&self) -> &[u8] {
        match self {
            Self::X25519(keys) => keys.public_key().as_bytes(),
            Self::P256(keys) => keys.public_key(),
        }
    }
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposal").field("native", &self.native.is_some()).finish_non_exhaustive()
    }
}
