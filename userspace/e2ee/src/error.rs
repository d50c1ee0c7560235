//! What can go wrong with records, whatever the method.

/// A record that could not be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// libsodium refused.
    #[error("seal a record of {length} bytes: libsodium refused, expected at most 256 GiB")]
    Length {
        /// Bytes of plaintext.
        length: usize,
    },
    /// The last record was sealed already.
    #[error("seal a record: the end of this direction was sealed before")]
    Ended,
}

/// A received record that is refused. Every later record of the direction is refused too: the only
/// thing left to do is to close the circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The first message is not a stream header (OpenZiti's method only).
    #[error(
        "first encrypted message: found {found} bytes, expected a {}-byte header",
        crate::HEADER_LENGTH
    )]
    HeaderLength {
        /// Bytes received.
        found: usize,
    },
    /// The record was changed, replayed, reordered or sealed with another key, or one before it is
    /// missing.
    #[error("open a record of {length} bytes: authentication failed")]
    Authentication {
        /// Bytes received.
        length: usize,
    },
    /// An earlier record of this direction was refused.
    #[error("open a record: an earlier record was refused, expected the circuit to be closed")]
    Broken,
    /// The direction ended without its last record: somebody on the path cut it, or the peer broke
    /// off (native method only).
    #[error("the stream was cut: the circuit ended before the peer had ended the stream")]
    Truncated,
    /// Something came after the last record (native method only).
    #[error("open a record: the peer had ended this direction before")]
    AfterEnd,
}
