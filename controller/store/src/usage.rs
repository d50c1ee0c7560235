//! What identities have used.

use nightgate_model::id::{IdentityId, ServiceId};

/// Who used what of whom.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UsageKey {
    /// Which service.
    pub service: ServiceId,
    /// Who dialed.
    pub dialer: IdentityId,
    /// Who hosted.
    pub host: IdentityId,
}

/// How much.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Circuits that were opened.
    pub circuits: u64,
    /// Bytes from dialer to host.
    pub sent: u64,
    /// Bytes from host to dialer.
    pub received: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.circuits = self.circuits.saturating_add(other.circuits);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
    }
}
