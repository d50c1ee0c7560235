//! Records after the handshake, as a state machine without sockets: opened where they lie, sealed into memory of their
//! own.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use rustls::{
    AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion,
    crypto::cipher::{
        InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks,
        OutboundPlainMessage,
    },
};

use crate::keys::Keys;

/// Type, version and length of a record (RFC 8446 section 5.1).
const HEADER: usize = 5;

/// Bytes that a record carries at most (RFC 8446 section 5.1).
const MOST: usize = 1 << 14;

/// What a record's protection may add (RFC 5246 section 6.2.3; RFC 8446 section 5.2 allows less).
const PROTECTION: usize = 2_048;

/// Records in a row that carry no data, at most, as rustls has it (`ALLOWED_CONSECUTIVE_EMPTY_FRAGMENTS_MAX`,
/// `INITIAL_KEY_UPDATE_REQUESTS`).
const FRUITLESS: u32 = 32;

/// Type and length of a handshake message (RFC 8446 section 4).
const MESSAGE_HEADER: usize = 4;

/// Bytes of a handshake message after the handshake, at most: a ticket of the greatest length and what belongs to it.
const MESSAGE: usize = 0x2_0000;

/// A key update that asks for none in return (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Levels of alerts (RFC 8446 section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What a record brought.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Opened {
    /// Data, which lies there in the record's memory.
    Data(Range<usize>),
    /// Nothing that anybody has to know.
    Nothing,
    /// The other end says nothing more.
    End,
}

/// One end of a connection after its handshake.
pub(crate) struct Records {
    keys: Keys,
    is_tls13: bool,
    decrypter: Box<dyn MessageDecrypter>,
    /// Records opened with this key.
    opened: u64,
    encrypter: Box<dyn MessageEncrypter>,
    /// Records sealed with this key.
    sealed: u64,
    /// Records that a key may seal.
    pub(crate) limit: u64,
    /// Whether the other end asked for a key update, and waits.
    owes_update: bool,
    /// The handshake message of which a part has come.
    message: BytesMut,
    /// Records without data since the last with.
    fruitless: u32,
}

/// The length of the record that `bytes` begin with, its header included; none if the header has not come.
pub(crate) fn record_length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(&[_, major, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    if major != 3 {
        return Err(InvalidMessage::UnknownProtocolVersion.into());
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST + PROTECTION {
        return Err(InvalidMessage::MessageTooLarge.into());
    }
    Ok(Some(HEADER + length))
}

impl Records {
    pub(crate) fn new(keys: Keys, secrets: ExtractedSecrets) -> Result<Self, Error> {
        let (opened, reading) = secrets.rx;
        let (sealed, writing) = secrets.tx;
        let (decrypter, mut encrypter) = (keys.decrypter(reading)?, keys.encrypter(writing)?);
        let (is_tls13, limit) = (keys.is_tls13(), keys.limit());
        // aws-lc takes the first number that it sees for 0, and refuses what does not grow from there
        // (`aead_aes_gcm_tls13_seal_scatter`, which rustls uses for TLS 1.2 too). What is sealed here goes nowhere.
        for number in 0..sealed {
            let nothing = OutboundChunks::new_empty();
            seal(&mut *encrypter, number, ContentType::ApplicationData, nothing)?;
        }
        Ok(Self {
            keys,
            is_tls13,
            decrypter,
            opened,
            encrypter,
            sealed,
            limit,
            owes_update: false,
            message: BytesMut::new(),
            fruitless: 0,
        })
    }

    /// Opens one whole record in its memory.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Opened, Error> {
        let (kind, data) = self.decrypt(record)?;
        let is_data = kind == ContentType::ApplicationData;
        self.fruitless = if is_data && !data.is_empty() { 0 } else { self.fruitless + 1 };
        if self.fruitless > FRUITLESS {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        if kind != ContentType::Handshake && !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if is_data {
            return Ok(if data.is_empty() { Opened::Nothing } else { Opened::Data(data) });
        }
        if kind == ContentType::Alert {
            return self.alerted(&record[data]);
        }
        self.message.extend_from_slice(&record[data]);
        self.take_messages()?;
        Ok(Opened::Nothing)
    }

    /// The record's kind, and where its data lies.
    fn decrypt(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Error> {
        let kind = ContentType::from(record[0]);
        if !self.may_come(kind) {
            return Err(unexpected(kind));
        }
        let version = ProtocolVersion::from(u16::from_be_bytes([record[1], record[2]]));
        let start = record.as_ptr().addr();
        let message = InboundOpaqueMessage::new(kind, version, &mut record[HEADER..]);
        let plain = self.decrypter.decrypt(message, self.opened)?;
        self.opened += 1;
        let from = plain.payload.as_ptr().addr() - start;
        let (kind, data) = (plain.typ, from..from + plain.payload.len());
        let is_known = [ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
        if is_known.contains(&kind) { Ok((kind, data)) } else { Err(unexpected(kind)) }
    }

    /// TLS 1.3 hides what a record is.
    fn may_come(&self, kind: ContentType) -> bool {
        kind == ContentType::ApplicationData
            || !self.is_tls13 && [ContentType::Alert, ContentType::Handshake].contains(&kind)
    }

    fn alerted(&self, alert: &[u8]) -> Result<Opened, Error> {
        let &[level, description] = alert else {
            return Err(InvalidMessage::InvalidContentType.into());
        };
        let description = AlertDescription::from(description);
        if description == AlertDescription::CloseNotify {
            return Ok(Opened::End);
        }
        // TLS 1.3 knows no other warnings (RFC 8446 section 6).
        let may_go_on = !self.is_tls13 || description == AlertDescription::UserCanceled;
        if level == WARNING && may_go_on {
            return Ok(Opened::Nothing);
        }
        Err(Error::AlertReceived(description))
    }

    fn take_messages(&mut self) -> Result<(), Error> {
        while let Some(&[kind, high, middle, low]) = self.message.first_chunk() {
            let length = usize::try_from(u32::from_be_bytes([0, high, middle, low]));
            let length = length.unwrap_or(usize::MAX);
            if !self.is_tls13 || length > MESSAGE {
                return Err(unexpected(ContentType::Handshake));
            }
            if self.message.len() < MESSAGE_HEADER + length {
                return Ok(());
            }
            let message = self.message.split_to(MESSAGE_HEADER + length);
            self.take_message(HandshakeType::from(kind), &message[MESSAGE_HEADER..])?;
        }
        Ok(())
    }

    fn take_message(&mut self, kind: HandshakeType, message: &[u8]) -> Result<(), Error> {
        if kind == HandshakeType::NewSessionTicket {
            return self.keys.keep_ticket(message);
        }
        if kind != HandshakeType::KeyUpdate {
            return Err(unexpected(ContentType::Handshake));
        }
        let &[asks @ (0 | 1)] = message else {
            return Err(InvalidMessage::InvalidKeyUpdate.into());
        };
        // Keys change between records (RFC 8446 section 5.1).
        if !self.message.is_empty() {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        self.decrypter = self.keys.next_decrypter()?;
        self.opened = 0;
        self.owes_update |= asks == 1;
        Ok(())
    }

    /// Seals data, which may lie in several places, into as few records as it takes.
    pub(crate) fn seal(
        &mut self,
        chunks: &[&[u8]],
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), Error> {
        let mut rest = OutboundChunks::new(chunks);
        while !rest.is_empty() {
            // The last number is the key update's own.
            if self.owes_update || self.sealed.saturating_add(1) >= self.limit {
                self.update_keys(out)?;
            }
            let (data, after) = rest.split_at(MOST);
            out.push_back(self.record(ContentType::ApplicationData, data)?);
            rest = after;
        }
        Ok(())
    }

    fn update_keys(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Error> {
        if !self.is_tls13 {
            return Err(Error::EncryptError);
        }
        out.push_back(self.record(ContentType::Handshake, KEY_UPDATE[..].into())?);
        self.encrypter = self.keys.next_encrypter()?;
        self.sealed = 0;
        self.owes_update = false;
        Ok(())
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self) -> Result<Bytes, Error> {
        let alert = [WARNING, AlertDescription::CloseNotify.into()];
        self.record(ContentType::Alert, alert[..].into())
    }

    /// What the other end is told of an error of its own; nothing of one that it told of.
    pub(crate) fn complain(&mut self, error: &Error) -> Option<Bytes> {
        let description = if let Error::AlertReceived(_) = error {
            return None;
        } else if let Error::InvalidMessage(_) = error {
            AlertDescription::DecodeError
        } else if *error == Error::DecryptError {
            AlertDescription::BadRecordMac
        } else if *error == Error::PeerSentOversizedRecord {
            AlertDescription::RecordOverflow
        } else {
            AlertDescription::UnexpectedMessage
        };
        self.record(ContentType::Alert, [FATAL, description.into()][..].into()).ok()
    }

    fn record(&mut self, kind: ContentType, data: OutboundChunks<'_>) -> Result<Bytes, Error> {
        let record = seal(&mut *self.encrypter, self.sealed, kind, data)?;
        self.sealed += 1;
        Ok(record)
    }
}

fn seal(
    encrypter: &mut dyn MessageEncrypter,
    number: u64,
    kind: ContentType,
    data: OutboundChunks<'_>,
) -> Result<Bytes, Error> {
    // Of either version of TLS (RFC 8446 section 5.1).
    let version = ProtocolVersion::TLSv1_2;
    let plain = OutboundPlainMessage { typ: kind, version, payload: data };
    Ok(encrypter.encrypt(plain, number)?.encode().into())
}

fn unexpected(kind: ContentType) -> Error {
    Error::InappropriateMessage {
        expect_types: vec![ContentType::ApplicationData, ContentType::Alert],
        got_type: kind,
    }
}
