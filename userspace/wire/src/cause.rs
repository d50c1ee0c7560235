//! Why a circuit could not be made, or ended.

use serde::Serialize;

/// A closed list, carried in `Refused` frames and shown to the dialer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCause {
    /// A policy does not allow it, or allows it no longer.
    Unauthorized,
    /// The service is unknown.
    NoService,
    /// Nobody hosts the service.
    NoTerminator,
    /// No chain of links reaches the terminator's router.
    NoRoute,
    /// The terminator vanished between choice and dial.
    InvalidTerminator,
    /// The other side did not answer in time.
    DialTimeout,
    /// The hosting application refused.
    HostRefused,
    /// The server behind the hosting gateway refused the connection.
    ConnectionRefused,
    /// The server behind the hosting gateway cannot be reached.
    HostUnreachable,
    /// The server behind the hosting gateway did not answer in time.
    ConnectTimeout,
    /// The encryption of the two ends does not fit.
    Encryption,
    /// A link on the path was lost.
    LinkLost,
    /// The other end closed.
    ClosedByPeer,
    /// The neighbour broke the protocol.
    Protocol,
    /// The router holds as many circuits as it may.
    Capacity,
    /// The router has no model from the controller, or none that is recent enough to allow anything by.
    NoModel,
}

/// The part of the way from a client to a server where a circuit failed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// Nothing on the way is ill: the model or the ends decided.
    None,
    /// The router that was asked, or its way to others.
    Routers,
    /// From the last router to the host.
    RouterToHost,
    /// From the host to the server behind it.
    HostToServer,
}

impl Leg {
    /// The word used by programs and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Routers => "routers",
            Self::RouterToHost => "router-to-host",
            Self::HostToServer => "host-to-server",
        }
    }
}

impl FailureCause {
    /// Where a circuit that failed for this cause is ill.
    pub fn leg(self) -> Leg {
        match self {
            Self::Unauthorized | Self::NoService | Self::Encryption | Self::ClosedByPeer => {
                Leg::None
            }
            Self::NoRoute | Self::LinkLost | Self::Protocol | Self::Capacity | Self::NoModel => {
                Leg::Routers
            }
            Self::NoTerminator
            | Self::InvalidTerminator
            | Self::DialTimeout
            | Self::HostRefused => Leg::RouterToHost,
            Self::ConnectionRefused | Self::HostUnreachable | Self::ConnectTimeout => {
                Leg::HostToServer
            }
        }
    }

    const ALL: [Self; 16] = [
        Self::Unauthorized,
        Self::NoService,
        Self::NoTerminator,
        Self::NoRoute,
        Self::InvalidTerminator,
        Self::DialTimeout,
        Self::HostRefused,
        Self::ConnectionRefused,
        Self::HostUnreachable,
        Self::ConnectTimeout,
        Self::Encryption,
        Self::LinkLost,
        Self::ClosedByPeer,
        Self::Protocol,
        Self::Capacity,
        Self::NoModel,
    ];

    /// The word used on the wire, in metrics and by people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NoService => "no-service",
            Self::NoTerminator => "no-terminator",
            Self::NoRoute => "no-route",
            Self::InvalidTerminator => "invalid-terminator",
            Self::DialTimeout => "dial-timeout",
            Self::HostRefused => "host-refused",
            Self::ConnectionRefused => "connection-refused",
            Self::HostUnreachable => "host-unreachable",
            Self::ConnectTimeout => "connect-timeout",
            Self::Encryption => "encryption",
            Self::LinkLost => "link-lost",
            Self::ClosedByPeer => "closed-by-peer",
            Self::Protocol => "protocol",
            Self::Capacity => "capacity",
            Self::NoModel => "no-model",
        }
    }

    /// The cause that a refusal's words begin with, as in `connection-refused: connect to 10.0.0.1:80`; `None` for words of
    /// others.
    pub fn of_words(words: &str) -> Option<Self> {
        words.split_once(": ").and_then(|(word, _)| Self::from_word(word))
    }

    /// Reads the word; `None` for a word that is not in the list.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl std::fmt::Display for FailureCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
