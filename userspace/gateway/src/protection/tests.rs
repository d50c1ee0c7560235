use super::*;

const BINDING: Binding<'_> = Binding { service: "s1", instance: "", app_data: b"{}" };

#[test]
fn encrypted_ends_understand_each_other_and_nobody_else_does() {
    let offer = Offer::new(Encryption::Required, None, BINDING).unwrap();
    let (share, mut host) = answer(Encryption::Required, &offer.key_share()).unwrap();
    let mut dialer = offer.complete(&share).unwrap();

    assert_eq!(host.opener.open(dialer.sealer.header().unwrap(), 0).unwrap(), "");
    let sealed = dialer.sealer.seal(&mut b"marker".to_vec(), 0).unwrap();
    assert!(!sealed.windows(6).any(|window| window == b"marker"));
    assert_eq!(host.opener.open(sealed, 0).unwrap(), "marker");
}

#[test]
fn aes_gcm_is_taken_by_hosts_that_were_told_nothing() {
    let offer = Offer::new(Encryption::AesGcm, None, BINDING).unwrap();
    let (share, mut host) = answer(Encryption::Required, &offer.key_share()).unwrap();
    let mut dialer = offer.complete(&share).unwrap();

    assert_eq!(dialer.sealer.header(), None);
    let sealed = dialer.sealer.seal(&mut b"marker".to_vec(), 0).unwrap();
    assert_eq!(sealed.len(), 6 + nightgate_e2ee::TAG_LENGTH);
    assert_eq!(host.opener.open(sealed, 0).unwrap(), "marker");
}

#[test]
fn plain_ends_pass_the_bytes_on() {
    let offer = Offer::new(Encryption::Off, None, BINDING).unwrap();
    assert_eq!(offer.key_share(), KeyShare::default());
    let (share, mut host) = answer(Encryption::Off, &offer.key_share()).unwrap();
    let mut dialer = offer.complete(&share).unwrap();

    assert_eq!(dialer.sealer.header(), None);
    let message = dialer.sealer.seal(&mut b"hello".to_vec(), 0).unwrap();
    assert_eq!(host.opener.open(message, 0).unwrap(), "hello");
}

#[test]
fn a_peer_that_does_not_encrypt_is_refused_when_encryption_is_required() {
    let of = |key: &'static [u8]| KeyShare {
        public_key: Bytes::from_static(key),
        ..KeyShare::default()
    };
    for key in [&[][..], &[1; 31], &[0; 32]] {
        let offer = Offer::new(Encryption::Required, None, BINDING).unwrap();
        assert!(offer.complete(&of(key)).is_err());
        assert!(answer(Encryption::Required, &of(key)).is_err());
    }
}

#[test]
fn a_peer_that_encrypts_is_refused_when_encryption_is_off() {
    let offer = Offer::new(Encryption::Required, None, BINDING).unwrap();

    assert!(answer(Encryption::Off, &offer.key_share()).is_err());
    assert!(Offer::Plain.complete(&offer.key_share()).is_err());
}

#[test]
fn a_peer_that_proves_no_identity_is_refused_where_the_service_demands_it() {
    let offer = Offer::new(Encryption::Native, None, BINDING).unwrap();
    let refused = answer(Encryption::Native, &offer.key_share()).unwrap_err();
    assert!(matches!(refused, ProtectionError::NotNative), "{refused}");

    let (share, _) = answer(Encryption::Required, &offer.key_share()).unwrap();
    assert!(matches!(offer.complete(&share), Err(ProtectionError::NotNative)));
}

fn answer(
    encryption: Encryption,
    dialer: &KeyShare,
) -> Result<(KeyShare, Protected), ProtectionError> {
    Protected::answer(encryption, None, BINDING, (dialer, None))
}
