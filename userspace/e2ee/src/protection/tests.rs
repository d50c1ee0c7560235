use super::*;
use crate::{Proposal, testing::identity};

const BINDING: Binding<'_> = Binding { service: "s1", instance: "", app_data: b"" };

#[test]
fn two_of_our_ends_take_the_native_method() {
    let (mut dialer, mut host) = agree(true, true).unwrap();
    assert!(matches!(dialer.method, Method::Native(_)));
    assert_eq!(dialer.method, host.method);
    assert_eq!(dialer.peer.unwrap().id, "web");
    assert_eq!(host.peer.unwrap().id, "anna");
    assert_eq!(dialer.sealer.header(), None);
    let body = dialer.sealer.seal(b"marker", 0).unwrap();
    assert_eq!(host.opener.open(&body, 0), Ok(Some(b"marker".to_vec())));
    assert_eq!(host.opener.finish(), Err(RecordError::Truncated));
    let end = dialer.sealer.seal(b"", END).unwrap();
    assert_eq!(host.opener.open(&end, END), Ok(Some(Vec::new())));
    assert_eq!(host.opener.finish(), Ok(()));
}

#[test]
fn if_either_end_is_not_ours_it_is_open_zitis_method() {
    for (dialer, host) in [(true, false), (false, true), (false, false)] {
        let (mut dialer, mut host) = agree(dialer, host).unwrap();
        assert_eq!((dialer.method, host.method), (Method::OpenZiti, Method::OpenZiti));
        let header = host.sealer.header().unwrap();
        assert_eq!(dialer.opener.open(&header, 0), Ok(None));
        let body = host.sealer.seal(b"marker", 0).unwrap();
        assert_eq!(dialer.opener.open(&body, 0), Ok(Some(b"marker".to_vec())));
        assert_eq!(host.sealer.seal(b"", END), Ok(Vec::new()));
        assert_eq!(dialer.opener.open(b"", END), Ok(None));
        assert_eq!(dialer.opener.finish(), Ok(()));
    }
}

#[test]
fn a_host_takes_the_form_that_the_dialer_was_started_with() {
    let keys = KeyPair::generate().unwrap();
    for host in [None, Some(own("web"))] {
        let proposal = Proposal::aes_gcm(None, BINDING).unwrap();
        let (answer, mut host) = Protection::answer(
            Some(&keys),
            host.as_ref(),
            BINDING,
            &proposal.share().public_key,
            b"",
        )
        .unwrap();
        let mut dialer = proposal.complete(&answer.public_key, &answer.handshake).unwrap();

        assert_eq!((dialer.method, host.method), (Method::AesGcm, Method::AesGcm));
        assert_eq!((dialer.sealer.header(), host.sealer.header()), (None, None));
        let body = dialer.sealer.seal(b"marker", 0).unwrap();
        assert_eq!(host.opener.open(&body, 0), Ok(Some(b"marker".to_vec())));
        assert_eq!(host.sealer.seal(b"", END), Ok(Vec::new()));
        assert_eq!(dialer.opener.open(b"", END), Ok(None));
        assert_eq!(dialer.opener.finish(), Ok(()));
    }
}

#[test]
fn ends_of_ours_take_the_native_method_whatever_the_form_of_the_other() {
    let (anna, web) = (Arc::new(identity("anna")), own("web"));
    let keys = KeyPair::generate().unwrap();
    let proposal = Proposal::aes_gcm(Some(anna.into()), BINDING).unwrap();
    let Share { public_key, handshake } = proposal.share();
    let (answer, host) =
        Protection::answer(Some(&keys), Some(&web), BINDING, &public_key, &handshake).unwrap();
    let dialer = proposal.complete(&answer.public_key, &answer.handshake).unwrap();
    assert!(matches!(dialer.method, Method::Native(_)));
    assert_eq!(dialer.method, host.method);
}

#[test]
fn ends_in_different_forms_refuse_each_other() {
    let keys = KeyPair::generate().unwrap();
    let aes = Proposal::aes_gcm(None, BINDING).unwrap();
    let refused = aes.complete(keys.public_key().as_bytes(), b"").unwrap_err();
    assert!(refused.to_string().contains("both ends have to use"), "{refused}");
}

#[test]
fn a_peer_without_any_key_is_refused() {
    let keys = KeyPair::generate().unwrap();
    assert!(matches!(
        Protection::answer(Some(&keys), None, BINDING, b"", b""),
        Err(AgreementError::NoKey)
    ));
    let proposal = Proposal::new(None, BINDING).unwrap();
    assert!(matches!(proposal.complete(b"", b""), Err(AgreementError::NoKey)));
}

#[test]
fn an_offer_of_a_later_version_is_none() {
    let (anna, web) = (Arc::new(identity("anna")), own("web"));
    let keys = KeyPair::generate().unwrap();
    let mut share = Proposal::new(Some(anna.into()), BINDING).unwrap().share();
    share.handshake[0] = 3;

    let (_, host) =
        Protection::answer(Some(&keys), Some(&web), BINDING, &share.public_key, &share.handshake)
            .unwrap();

    assert_eq!(host.method, Method::OpenZiti);
}

#[test]
fn a_damaged_offer_does_not_fall_back() {
    let (anna, web) = (Arc::new(identity("anna")), own("web"));
    let keys = KeyPair::generate().unwrap();
    let mut share = Proposal::new(Some(anna.into()), BINDING).unwrap().share();
    share.handshake.truncate(100);

    let refused =
        Protection::answer(Some(&keys), Some(&web), BINDING, &share.public_key, &share.handshake);

    assert!(matches!(refused, Err(AgreementError::Handshake(HandshakeError::Malformed))));
}

fn agree(dialer: bool, host: bool) -> Result<(Protection, Protection), AgreementError> {
    let anna = dialer.then(|| own("anna"));
    let web = host.then(|| own("web"));
    let proposal = Proposal::new(anna, BINDING)?;
    let Share { public_key, handshake } = proposal.share();
    let keys = KeyPair::generate()?;
    let (answer, host) =
        Protection::answer(Some(&keys), web.as_ref(), BINDING, &public_key, &handshake)?;
    Ok((proposal.complete(&answer.public_key, &answer.handshake)?, host))
}

/// An identity that keeps nothing for later circuits.
fn own(id: &str) -> Own {
    Arc::new(identity(id)).into()
}
