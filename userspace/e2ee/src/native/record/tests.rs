//! What a hostile router can do to records, and what the receiver says to it.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::native::schedule::Secrets;

/// Flags that messages of OpenZiti's SDKs carry beside the end.
const SOME_FLAG: u32 = 8;

#[test]
fn records_pass_in_order_and_the_end_is_the_end() {
    for cipher in CIPHERS {
        let (mut sealing, mut opening) = direction(cipher);
        for round in 0..100_u8 {
            let plaintext = vec![round; usize::from(round) * 31];
            let record = sealing.seal(&plaintext, 0).unwrap();
            assert_eq!(record.len(), plaintext.len() + cipher.overhead());
            assert_eq!(opening.open(&record, 0), Ok(plaintext));
        }
        assert_eq!(opening.finish(), Err(RecordError::Truncated));
        let end = sealing.seal(b"last", END).unwrap();
        assert_eq!(opening.open(&end, END), Ok(b"last".to_vec()));
        assert_eq!(opening.finish(), Ok(()));
        assert_eq!(sealing.seal(b"more", 0), Err(SealError::Ended));
    }
}

#[test]
fn keys_change_in_step() {
    for cipher in CIPHERS {
        let (mut sealing, mut opening) = direction(cipher);
        let first = sealing.seal(b"x", 0).unwrap();
        opening.open(&first, 0).unwrap();
        for number in 1..=2 * REKEY_AFTER {
            let record = sealing.seal(&number.to_be_bytes(), 0).unwrap();
            assert_eq!(opening.open(&record, 0).unwrap(), number.to_be_bytes(), "{number}");
        }
    }
}

#[test]
fn a_key_that_was_not_changed_opens_nothing_after_the_change() {
    let (mut sealing, mut opening) = direction(Cipher::Aegis256);
    for _ in 0..REKEY_AFTER {
        let record = sealing.seal(b"", 0).unwrap();
        opening.open(&record, 0).unwrap();
    }
    let (_, mut stale) = direction(Cipher::Aegis256);
    stale.direction.number = REKEY_AFTER;
    let record = sealing.seal(b"secret", 0).unwrap();

    assert!(stale.open(&record, 0).is_err());
    assert_eq!(opening.open(&record, 0), Ok(b"secret".to_vec()));
}

/// The promise of the product: of 10,000 records, each with one flipped bit, none is opened.
#[test]
fn one_flipped_bit_in_any_of_ten_thousand_records_is_refused() {
    for cipher in CIPHERS {
        let (mut sealing, genuine) = direction(cipher);
        let (secret, mut number) = (genuine.direction.secret, 0_usize);
        let key = RecordKey::derive(cipher, &secret);
        while number < 10_000 {
            let mut record = sealing.seal(&vec![0x5a; number % 97], 0).unwrap();
            let bit = number.wrapping_mul(0x9e37_79b9) % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            // Every record is tried as the one that is due: before the first change of keys.
            assert_eq!(key.open(number as u64, &mut record, &[0; 4]), None, "{cipher:?} {number}");
            number += 1;
        }
    }
}

#[test]
fn nothing_opens_after_a_refused_record_or_after_the_end() {
    let (mut sealing, mut opening) = direction(Cipher::Aegis256);
    let record = sealing.seal(b"genuine", 0).unwrap();
    assert!(opening.open(&record[1..], 0).is_err());
    assert_eq!(opening.open(&record, 0), Err(RecordError::Broken));
    assert_eq!(opening.finish(), Err(RecordError::Broken));

    let (mut sealing, mut opening) = direction(Cipher::Aegis256);
    let end = sealing.seal(b"", END).unwrap();
    opening.open(&end, END).unwrap();
    assert_eq!(opening.open(&end, END), Err(RecordError::AfterEnd));
}

#[test]
fn debug_output_shows_no_key() {
    let (sealing, opening) = direction(Cipher::Aegis256);
    assert_eq!(format!("{sealing:?}"), "Sealing { cipher: Aegis256, ended: false, .. }");
    assert_eq!(format!("{opening:?}"), "Opening { cipher: Aegis256, state: Open, .. }");
}

proptest! {
    /// Any split of a stream into records gives the stream.
    #[test]
    fn any_split_survives(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..40),
        cipher in cipher(),
    ) {
        let (mut sealing, mut opening) = direction(cipher);
        let mut received = Vec::new();
        for part in &parts {
            received.extend(opening.open(&sealing.seal(part, 0).unwrap(), 0).unwrap());
        }
        opening.open(&sealing.seal(b"", END).unwrap(), END).unwrap();
        prop_assert_eq!(received, parts.concat());
        prop_assert_eq!(opening.finish(), Ok(()));
    }

    #[test]
    fn one_flipped_bit_of_record_or_flags_is_refused(
        plaintext in proptest::collection::vec(any::<u8>(), 0..300),
        flags in prop_oneof![Just(0), Just(END), Just(SOME_FLAG)],
        at in any::<Index>(),
        cipher in cipher(),
    ) {
        let (mut sealing, mut opening) = direction(cipher);
        let mut record = sealing.seal(&plaintext, flags).unwrap();
        let length = record.len();
        let bit = at.index(length * 8 + 32);
        let mut seen = flags;
        match bit.checked_sub(length * 8) {
            Some(bit) => seen ^= 1 << bit,
            None => record[bit / 8] ^= 1 << (bit % 8),
        }
        prop_assert_eq!(opening.open(&record, seen), Err(RecordError::Authentication { length }));
    }

    /// A router that cuts the stream, wherever, is found out.
    #[test]
    fn truncation_at_every_point_is_detected(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..20),
        at in any::<Index>(),
        cipher in cipher(),
    ) {
        let (mut sealing, mut opening) = direction(cipher);
        let mut records: Vec<_> =
            parts.iter().map(|part| (sealing.seal(part, 0).unwrap(), 0)).collect();
        records.push((sealing.seal(b"", END).unwrap(), END));
        let total: usize = records.iter().map(|(record, _)| record.len()).sum();
        let mut left = at.index(total);
        for (record, flags) in &records {
            let whole = record.len() <= left;
            let opened = opening.open(&record[..left.min(record.len())], *flags);
            if !whole {
                // A record that is cut in itself, or one that the router makes out of nothing.
                prop_assert!(opened.is_err());
                break;
            }
            left -= record.len();
            if left == 0 {
                break;
            }
        }
        prop_assert!(opening.finish().is_err());
    }

    /// Dropping, repeating or swapping records is found out at the first one that is out of place.
    #[test]
    fn any_other_order_is_refused(
        order in proptest::collection::vec(0_u8..6, 6).prop_filter(
            "the right order",
            |order| order.iter().enumerate().any(|(at, number)| at != usize::from(*number)),
        ),
        cipher in cipher(),
    ) {
        let (mut sealing, mut opening) = direction(cipher);
        let records: Vec<_> = (0..6_u8).map(|n| sealing.seal(&[n], 0).unwrap()).collect();
        let right = order.iter().enumerate().take_while(|(at, n)| *at == usize::from(**n)).count();
        let opened =
            order.iter().filter(|n| opening.open(&records[usize::from(**n)], 0).is_ok()).count();
        prop_assert_eq!(opened, right);
    }
}

const CIPHERS: [Cipher; 3] = [Cipher::Aegis256X4, Cipher::Aegis256, Cipher::ChaCha20Poly1305];

fn cipher() -> impl Strategy<Value = Cipher> {
    proptest::sample::select(&CIPHERS[..])
}

fn direction(cipher: Cipher) -> (Sealing, Opening) {
    let secret = || Secrets::derive(&[7; 32], &[9; 64]).dialer_to_host;
    (Sealing::new(cipher, secret()), Opening::new(cipher, secret()))
}
