//! Fuzz targets: every parser of bytes from outside, as plain functions.
//!
//! A target takes any bytes and panics only when the product is wrong. `cargo test` replays the inputs
//! kept in `corpus/TARGET/`; `cargo xtask fuzz` looks for new ones with libFuzzer.

mod handshake;

use std::sync::LazyLock;

use bytes::BytesMut;
use nightgate_config::{FileError, Files, parse_with};
use nightgate_identity::Identity;
use nightgate_mirror::flow::{HelloReader, Look};
use nightgate_model::{
    api::{CreateEnrollment, EnrollRouter, IdentityEnrollment},
    filter::Query,
    network::Network,
    spec::{
        CaSpec, ConfigSpec, ConfigTypeSpec, EdgeRouterPolicySpec, EdgeRouterSpec, IdentitySpec,
        ServiceEdgeRouterPolicySpec, ServicePolicySpec, ServiceSpec,
    },
    token::{ApiSessionClaims, EnrollmentClaims, SessionClaims},
};
use nightgate_packet::{Fragment, Packet, PacketMeta, Part, parse, quote::quote};
use nightgate_pki::{ForeignCertificate, TokenKey};
use nightgate_wire::{
    channel::{Limits, Message},
    datagrams::Bundle,
    edge::flag,
    link::Frame,
};
use serde::{Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

/// A function that takes any bytes.
pub struct Target {
    /// Its name: the folder of its inputs.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "certificate", run: certificate },
    Target { name: "certificate_request", run: certificate_request },
    Target { name: "channel_frame", run: channel_frame },
    Target { name: "client_hello", run: client_hello },
    Target { name: "config", run: config },
    Target { name: "datagrams", run: datagrams },
    Target { name: "filter", run: filter },
    Target { name: "handshake", run: handshake::handshake },
    Target { name: "identity_file", run: identity_file },
    Target { name: "link_frame", run: link_frame },
    Target { name: "packet", run: packet },
    Target { name: "rest_answer", run: nightgate_sdk::fuzzing::read_answer },
    Target { name: "rest_body", run: rest_body },
    Target { name: "token", run: token },
];

/// Certificates that operators and clients send: whatever is taken for one can be asked everything.
pub fn certificate(data: &[u8]) {
    let Ok(pem) = std::str::from_utf8(data) else { return };
    let Ok(certificate) = ForeignCertificate::from_pem(pem) else { return };
    let again = ForeignCertificate::from_pem(&certificate.pem()).map(|again| again.fingerprint());
    assert_eq!(again, Ok(certificate.fingerprint()));
    let now = OffsetDateTime::UNIX_EPOCH;
    drop((certificate.common_name(), certificate.not_after(), certificate.check_ca(now)));
    assert!(
        certificate.check_proof(&certificate, "", now).is_err()
            || certificate.common_name().is_empty()
    );
}

/// Certificate signing requests of whoever enrolls: accepted or refused.
pub fn certificate_request(data: &[u8]) {
    if let Err(error) = nightgate_pki::check_request(data) {
        assert!(!error.to_string().is_empty());
    }
}

/// What clients of intercepted connections say first: it is read the same whole and in two pieces.
pub fn client_hello(data: &[u8]) {
    let whole = HelloReader::default().look(data);
    if let Look::Hello(client) = &whole {
        assert!(client.ja4.len() == 36 && client.ja4.is_ascii(), "{client:?}");
    }
    let mut reader = HelloReader::default();
    let (first, second) = data.split_at(data.len() / 2);
    let mut cut = reader.look(first);
    if cut == Look::Undecided {
        cut = reader.look(second);
    }
    assert_eq!(cut, whole);
}

/// The edge channel: whatever is accepted means the same after encoding it again.
pub fn channel_frame(data: &[u8]) {
    let mut input = BytesMut::from(data);
    while let Ok(Some(message)) = Message::decode(&mut input, Limits::EDGE) {
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded);
        let again = Message::decode(&mut encoded, Limits::EDGE);
        assert_eq!(again.as_ref().ok(), Some(&Some(message)));
        assert!(encoded.is_empty());
    }
}

/// The configuration file, and behind a zero byte what stands in every file that it names: a refusal always names a
/// reason.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, named) = text.split_once('\0').unwrap_or((text, ""));
    if let Err(errors) = parse_with(text, "fuzz.yaml", &mut Named(named)) {
        assert!(!errors.is_empty());
        assert!(errors.iter().all(|error| !error.to_string().is_empty()));
    }
}

/// The content of every file.
struct Named<'a>(&'a str);

impl Files for Named<'_> {
    fn content(&mut self, _path: &str) -> Result<String, FileError> {
        Ok(self.0.to_owned())
    }
}

/// Messages of several datagrams that the other end of a circuit sends: what comes out of one makes its beginning again.
pub fn datagrams(data: &[u8]) {
    let message = bytes::Bytes::copy_from_slice(data);
    let mut bundle = Bundle::default();
    for datagram in nightgate_wire::datagrams::datagrams(message, flag::MULTIPART_MESSAGE) {
        bundle.push(&datagram);
    }
    assert!(data.starts_with(&bundle.into_body()));
}

/// The query language of lists: whatever is accepted means the same after writing it again.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Query::parse(text) {
        Ok(query) => {
            let written = query.to_string();
            // What is written has more parentheses, so it may exceed the limits of length and depth.
            if let Ok(again) = Query::parse(&written) {
                assert_eq!(again, query);
            }
            query.admits(&|field| field.into());
        }
        Err(error) => assert!(error.at <= text.len() && !error.expected.is_empty()),
    }
}

/// Identity files, ours and those of OpenZiti's clients: whatever is accepted means the same after writing it again.
pub fn identity_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(identity) = Identity::from_json(text) else { return };
    let again = Identity::from_json(&identity.to_json());
    assert_eq!(again.ok().as_ref().map(Identity::to_json), Some(identity.to_json()));
    drop((identity.controller_address(), identity.common_name(), identity.validity()));
    drop((identity.certificates(), identity.private_key(), identity.trusted()));
}

/// Links between routers: whatever is accepted means the same after encoding it again.
pub fn link_frame(data: &[u8]) {
    let mut input = BytesMut::from(data);
    while let Ok(Some(frame)) = Frame::decode(&mut input) {
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        let again = Frame::decode(&mut encoded);
        assert_eq!(again.as_ref().ok(), Some(&Some(frame)));
        assert!(encoded.is_empty());
    }
}

/// Frames from the network: both directions of a packet belong to one flow, seen from its two ends, and a fragment is
/// part of a packet that there can be. So do those of the packet that an ICMP error quotes, which the error's receiver
/// has sent.
pub fn packet(data: &[u8]) {
    let Ok(Packet::Ip(meta)) = parse(&data) else { return };
    check_flow(&meta);
    if meta.is_icmp_error() {
        let mut quoted = meta;
        if quote(&data, &meta, &mut quoted).is_ok() {
            assert_eq!((quoted.source, quoted.family), (meta.destination, meta.family));
            check_flow(&quoted);
        }
    }
}

fn check_flow(meta: &PacketMeta) {
    let (key, end) = meta.flow_key();
    let (key_back, end_back) = meta.reversed().flow_key();
    assert_eq!(key, key_back);
    let symmetric = meta.source == meta.destination && meta.source_port == meta.destination_port;
    assert!(symmetric || end != end_back);
    let Fragment { part, offset, length, .. } = meta.fragment;
    assert!(offset.checked_add(length).is_some());
    match part {
        Part::Whole => assert_eq!(meta.fragment, Fragment::WHOLE),
        Part::First => assert!(offset == 0 && length > 0),
        Part::Later => {
            assert!(offset > 0 && length > 0);
            assert_eq!((meta.source_port, meta.destination_port, meta.tcp_flags), (0, 0, 0));
        }
    }
}

/// Bodies of the REST interfaces: whatever is accepted means the same after writing it again.
pub fn rest_body(data: &[u8]) {
    body::<IdentitySpec>(data);
    body::<EdgeRouterSpec>(data);
    body::<CaSpec>(data);
    body::<ConfigTypeSpec>(data);
    body::<ConfigSpec>(data);
    body::<ServiceSpec>(data);
    body::<ServicePolicySpec>(data);
    body::<EdgeRouterPolicySpec>(data);
    body::<ServiceEdgeRouterPolicySpec>(data);
    body::<Network>(data);
    body::<IdentityEnrollment>(data);
    body::<CreateEnrollment>(data);
    body::<EnrollRouter>(data);
}

fn body<T: DeserializeOwned + PartialEq + Serialize + std::fmt::Debug>(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&body).expect("a body that was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(body));
}

/// Tokens that callers present: none of them was signed by a key that nobody has.
pub fn token(data: &[u8]) {
    static KEY: LazyLock<TokenKey> = LazyLock::new(TokenKey::of_nobody);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = OffsetDateTime::UNIX_EPOCH;
    assert!(KEY.verify::<ApiSessionClaims>(text, now).is_err());
    assert!(KEY.verify::<SessionClaims>(text, now).is_err());
    assert!(KEY.verify::<EnrollmentClaims>(text, now).is_err());
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn corpus() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
    }

    #[test]
    fn every_kept_input_still_passes() {
        for target in TARGETS {
            for entry in fs::read_dir(corpus().join(target.name)).unwrap() {
                let path = entry.unwrap().path();
                let data = fs::read(&path).unwrap();
                let outcome = std::panic::catch_unwind(|| (target.run)(&data));
                assert!(outcome.is_ok(), "{}: {}", target.name, path.display());
            }
        }
    }

    #[test]
    fn every_folder_of_inputs_belongs_to_a_target() {
        let folders: BTreeSet<String> = fs::read_dir(corpus())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(folders, names);
    }
}
