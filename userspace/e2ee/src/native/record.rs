//! Records of the native method: numbered, and the last one says so.

use std::fmt;

use super::{
    cipher::{Cipher, RecordKey},
    schedule::TrafficSecret,
};
use crate::{END, RecordError, SealError};

/// Records that are sealed with one key. Then each end derives the next key and forgets this one, so
/// that whoever takes a key from memory reads at most this many earlier records (2 GiB at 32 KiB
/// each). Far below what either cipher allows.
pub const REKEY_AFTER: u64 = 1 << 16;

/// Keys of one direction, in step at both ends.
struct Direction {
    cipher: Cipher,
    secret: TrafficSecret,
    key: RecordKey,
    number: u64,
}

/// The sealing half of a circuit.
pub(crate) struct Sealing {
    direction: Direction,
    ended: bool,
}

/// The opening half of a circuit.
pub(crate) struct Opening {
    direction: Direction,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    Ended,
    Broken,
}

impl Direction {
    fn new(cipher: Cipher, secret: TrafficSecret) -> Self {
        let key = RecordKey::derive(cipher, &secret);
        Self { cipher, secret, key, number: 0 }
    }

    fn advance(&mut self) {
        self.number += 1;
        if self.number.is_multiple_of(REKEY_AFTER) {
            self.secret = self.secret.next();
            self.key = RecordKey::derive(self.cipher, &self.secret);
        }
    }
}

impl Sealing {
    pub(crate) fn new(cipher: Cipher, secret: TrafficSecret) -> Self {
        Self { direction: Direction::new(cipher, secret), ended: false }
    }

    /// Seals one record, whose message will carry these flags.
    pub(crate) fn seal(&mut self, plaintext: &[u8], flags: u32) -> Result<Vec<u8>, SealError> {
        let mut record = Vec::with_capacity(plaintext.len() + self.overhead());
        record.extend_from_slice(plaintext);
        self.seal_in_place(record, flags)
    }

    /// As [`Self::seal`]. Room for [`Self::overhead`] more bytes saves a copy.
    pub(crate) fn seal_in_place(
        &mut self,
        plaintext: Vec<u8>,
        flags: u32,
    ) -> Result<Vec<u8>, SealError> {
        if self.ended {
            return Err(SealError::Ended);
        }
        let Direction { key, number, .. } = &self.direction;
        let length = plaintext.len();
        let record = key
            .seal(*number, plaintext, &flags.to_le_bytes())
            .ok_or(SealError::Length { length })?;
        self.direction.advance();
        self.ended = flags & END != 0;
        Ok(record)
    }

    /// Bytes that a record is longer than its plaintext.
    pub(crate) const fn overhead(&self) -> usize {
        self.direction.cipher.overhead()
    }
}

impl Opening {
    pub(crate) fn new(cipher: Cipher, secret: TrafficSecret) -> Self {
        Self { direction: Direction::new(cipher, secret), state: State::Open }
    }

    /// Opens the body of a message that carried these flags.
    pub(crate) fn open(&mut self, record: &[u8], flags: u32) -> Result<Vec<u8>, RecordError> {
        let mut plaintext = record.to_vec();
        let length = self.open_in_place(&mut plaintext, flags)?;
        plaintext.truncate(length);
        Ok(plaintext)
    }

    /// As [`Self::open`], and returns the length of the plaintext, which is where the record was.
    pub(crate) fn open_in_place(
        &mut self,
        record: &mut [u8],
        flags: u32,
    ) -> Result<usize, RecordError> {
        let opened = match self.state {
            State::Open => self.open_next(record, flags),
            State::Ended => Err(RecordError::AfterEnd),
            State::Broken => Err(RecordError::Broken),
        };
        match &opened {
            Ok(_) if flags & END != 0 => self.state = State::Ended,
            Ok(_) => {}
            Err(_) => self.state = State::Broken,
        }
        opened
    }

    /// Nothing more arrives: was that the end?
    pub(crate) fn finish(&self) -> Result<(), RecordError> {
        match self.state {
            State::Open => Err(RecordError::Truncated),
            State::Ended => Ok(()),
            State::Broken => Err(RecordError::Broken),
        }
    }

    fn open_next(&mut self, record: &mut [u8], flags: u32) -> Result<usize, RecordError> {
        let Direction { key, number, .. } = &self.direction;
        let length = key
            .open(*number, record, &flags.to_le_bytes())
            .ok_or(RecordError::Authentication { length: record.len() })?;
        self.direction.advance();
        Ok(length)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing")
            .field("cipher", &self.direction.cipher)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("cipher", &self.direction.cipher)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
