//! One direction of a circuit: a sequence of records that cannot be changed, dropped from the middle,
//! reordered or replayed without the receiver noticing.

use std::fmt;

use libsodium_rs::crypto_secretstream::xchacha20poly1305::{
    self as secretstream, Key, PullState, PushState, TAG_MESSAGE,
};

use crate::{RecordError, SealError};

/// Bytes of the first message of each direction
/// (`crypto_secretstream_xchacha20poly1305_HEADERBYTES`).
pub const HEADER_LENGTH: usize = 24;

/// Bytes a record is longer than its plaintext: one tag byte and the 16-byte authenticator
/// (`crypto_secretstream_xchacha20poly1305_ABYTES`).
pub const RECORD_OVERHEAD: usize = 17;

const _: () = assert!(HEADER_LENGTH == secretstream::HEADERBYTES);
const _: () = assert!(RECORD_OVERHEAD == secretstream::ABYTES);

/// The sealing half of a circuit.
pub struct Outbound {
    header: [u8; HEADER_LENGTH],
    state: PushState,
}

/// The opening half of a circuit.
pub struct Inbound(InboundState);

enum InboundState {
    AwaitingHeader(Key),
    Open(PullState),
    Broken,
}

impl Outbound {
    pub(crate) fn new(key: [u8; 32]) -> Result<Self, SealError> {
        let (state, header) = PushState::init_push(&Key::from(key))
            .map_err(|_cause| SealError::Length { length: 0 })?;
        Ok(Self { header, state })
    }

    /// What the first message of this direction carries, alone.
    pub fn header(&self) -> [u8; HEADER_LENGTH] {
        self.header
    }

    /// Seals one record, [`RECORD_OVERHEAD`] bytes longer than `plaintext`. Records must be sent in
    /// the order they are sealed.
    ///
    /// # Errors
    /// `plaintext` is longer than 256 GiB.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.state
            .push(plaintext, None, TAG_MESSAGE)
            .map_err(|_cause| SealError::Length { length: plaintext.len() })
    }
}

impl Inbound {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(InboundState::AwaitingHeader(Key::from(key)))
    }

    /// Opens the body of one message, in the order of arrival.
    ///
    /// Returns none for what carries no plaintext: the header, which the first message must be, and
    /// an empty body, which is legal at any time and authenticates nothing.
    ///
    /// # Errors
    /// The message is not what the peer sealed next; see [`RecordError`].
    pub fn open(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        if message.is_empty() {
            return Ok(None);
        }
        let opened = match &mut self.0 {
            InboundState::AwaitingHeader(key) => start(key, message).map(|state| {
                self.0 = InboundState::Open(state);
                None
            }),
            InboundState::Open(state) => state
                .pull(message, None)
                .map(|(plaintext, _tag)| Some(plaintext))
                .map_err(|_cause| RecordError::Authentication { length: message.len() }),
            InboundState::Broken => Err(RecordError::Broken),
        };
        if opened.is_err() {
            self.0 = InboundState::Broken;
        }
        opened
    }
}

fn start(key: &Key, message: &[u8]) -> Result<PullState, RecordError> {
    let header = <&[u8; HEADER_LENGTH]>::try_from(message)
        .map_err(|_length| RecordError::HeaderLength { found: message.len() })?;
    PullState::init_pull(header, key)
        .map_err(|_cause| RecordError::Authentication { length: message.len() })
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            InboundState::AwaitingHeader(_) => "awaiting header",
            InboundState::Open(_) => "open",
            InboundState::Broken => "broken",
        };
        f.debug_tuple("Inbound").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::KeyPair;

    #[test]
    fn both_directions_carry_records_in_order() {
        let [mut dialer, mut host] = circuit();
        for round in 0..100_u8 {
            let plaintext = vec![round; usize::from(round) * 7 + 1];
            let record = dialer.0.seal(&plaintext).unwrap();
            assert_eq!(record.len(), plaintext.len() + RECORD_OVERHEAD);
            assert_eq!(host.1.open(&record), Ok(Some(plaintext.clone())));
            let echo = host.0.seal(&plaintext).unwrap();
            assert_eq!(dialer.1.open(&echo), Ok(Some(plaintext)));
        }
    }

    #[test]
    fn first_message_that_is_no_header_is_refused() {
        for length in [1, HEADER_LENGTH - 1, HEADER_LENGTH + 1] {
            let mut inbound = Inbound::new([7; 32]);
            assert_eq!(
                inbound.open(&vec![0; length]),
                Err(RecordError::HeaderLength { found: length })
            );
            assert_eq!(inbound.open(&[0; HEADER_LENGTH]), Err(RecordError::Broken));
        }
    }

    #[test]
    fn replayed_record_is_refused() {
        let (mut sender, mut receiver) = direction();
        let record = sender.seal(b"pay 10").unwrap();
        receiver.open(&record).unwrap();

        assert_eq!(receiver.open(&record), Err(RecordError::Authentication { length: 23 }));
    }

    #[test]
    fn reordered_records_are_refused() {
        let (mut sender, mut receiver) = direction();
        let _first = sender.seal(b"first").unwrap();
        let second = sender.seal(b"second").unwrap();

        assert_eq!(receiver.open(&second), Err(RecordError::Authentication { length: 23 }));
    }

    #[test]
    fn nothing_opens_after_a_refused_record() {
        let (mut sender, mut receiver) = direction();
        let record = sender.seal(b"genuine").unwrap();
        let mut forged = record.clone();
        forged[3] ^= 1;

        assert!(receiver.open(&forged).is_err());
        assert_eq!(receiver.open(&record), Err(RecordError::Broken));
    }

    #[test]
    fn empty_body_carries_nothing_and_changes_nothing() {
        let (mut sender, mut receiver) = direction();
        assert_eq!(receiver.open(&[]), Ok(None));
        let record = sender.seal(b"still in step").unwrap();

        assert_eq!(receiver.open(&record), Ok(Some(b"still in step".to_vec())));
        assert_eq!(Inbound::new([7; 32]).open(&[]), Ok(None));
    }

    #[test]
    fn record_of_another_circuit_is_refused() {
        let (mut stranger, _) = direction();
        let (_, mut receiver) = direction();
        let record = stranger.seal(b"hello").unwrap();

        assert_eq!(receiver.open(&record), Err(RecordError::Authentication { length: 22 }));
    }

    proptest! {
        #[test]
        fn any_plaintext_survives(plaintext in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let (mut sender, mut receiver) = direction();
            let record = sender.seal(&plaintext).unwrap();
            prop_assert_eq!(receiver.open(&record), Ok(Some(plaintext)));
        }

        #[test]
        fn one_flipped_bit_is_refused(
            plaintext in proptest::collection::vec(any::<u8>(), 0..300),
            position in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let (mut sender, mut receiver) = direction();
            let mut record = sender.seal(&plaintext).unwrap();
            let length = record.len();
            record[position.index(length)] ^= 1 << bit;
            prop_assert_eq!(receiver.open(&record), Err(RecordError::Authentication { length }));
        }

        #[test]
        fn flipped_bit_in_the_header_spoils_the_first_record(
            position in 0..HEADER_LENGTH,
            bit in 0..8_u32,
        ) {
            let (mut sender, mut receiver) = (Outbound::new([7; 32]).unwrap(), Inbound::new([7; 32]));
            let mut header = sender.header();
            header[position] ^= 1 << bit;
            prop_assert_eq!(receiver.open(&header), Ok(None));
            let record = sender.seal(b"hello").unwrap();
            prop_assert_eq!(
                receiver.open(&record),
                Err(RecordError::Authentication { length: 22 })
            );
        }

        #[test]
        fn truncated_record_is_refused(
            plaintext in proptest::collection::vec(any::<u8>(), 0..300),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (mut sender, mut receiver) = direction();
            let record = sender.seal(&plaintext).unwrap();
            let length = 1 + cut.index(record.len() - 1);
            prop_assert_eq!(
                receiver.open(&record[..length]),
                Err(RecordError::Authentication { length })
            );
        }
    }

    /// Both ends of a circuit after the exchange of headers.
    fn circuit() -> [(Outbound, Inbound); 2] {
        let (dialer, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut at_dialer = dialer.dialer_keys(host.public_key()).unwrap().into_streams().unwrap();
        let mut at_host = host.host_keys(dialer.public_key()).unwrap().into_streams().unwrap();
        at_host.1.open(&at_dialer.0.header()).unwrap();
        at_dialer.1.open(&at_host.0.header()).unwrap();
        [at_dialer, at_host]
    }

    fn direction() -> (Outbound, Inbound) {
        let [dialer, host] = circuit();
        (dialer.0, host.1)
    }
}
