//! What is told of a TLS client, and its fingerprint: JA4, the method of FoxIO for TLS clients (`technical_details/JA4.md` of
//! github.com/FoxIO-LLC/ja4, under the BSD licence; the other methods of that family are not).

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::client_hello::{ClientHello, extension};

/// What a TLS client has said in the clear.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct TlsClient {
    /// Name of the server that it asked for (SNI, RFC 6066).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// JA4 fingerprint of the client: programs that use the same TLS library in the same way have the same.
    pub ja4: String,
}

/// Digits of a digest that are kept.
const DIGITS: usize = 12;
/// What stands for the digest of nothing.
const NOTHING: &str = "000000000000";

impl TlsClient {
    pub(super) fn of(hello: &ClientHello) -> Self {
        let ja4 = format!("{}_{}_{}", summary(hello), ciphers(hello), extensions(hello));
        Self { sni: hello.server_name.clone(), ja4 }
    }
}

/// Transport, version, whether a server is named, how many ciphers and extensions, application protocol.
fn summary(hello: &ClientHello) -> String {
    let version = hello.versions.iter().max().copied().unwrap_or(hello.version);
    let is_named = hello.extensions.contains(&extension::SERVER_NAME);
    let count = |list: &[u16]| list.len().min(99);
    format!(
        "t{}{}{:02}{:02}{}",
        version_word(version),
        if is_named { 'd' } else { 'i' },
        count(&hello.ciphers),
        count(&hello.extensions),
        protocol_ends(hello.protocol.as_deref().unwrap_or_default()),
    )
}

/// ProtocolVersion (RFC 8446 section 4.2.1, RFC 5246, RFC 4346, RFC 2246, RFC 6101, RFC 6176).
fn version_word(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of a protocol's name; of its hexadecimal form if one of the two is no letter or digit.
fn protocol_ends(name: &[u8]) -> String {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return "00".into() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(first), char::from(last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0x0f)
}

fn ciphers(hello: &ClientHello) -> String {
    digest(&sorted(hello.ciphers.clone()))
}

/// Of the extensions but those that name server and protocol, sorted, and of the signature algorithms in their order.
fn extensions(hello: &ClientHello) -> String {
    let named = [extension::SERVER_NAME, extension::ALPN];
    let others = hello.extensions.iter().copied().filter(|kind| !named.contains(kind)).collect();
    let mut text = sorted(others);
    if !text.is_empty() && !hello.signature_algorithms.is_empty() {
        text = format!("{text}_{}", list(&hello.signature_algorithms));
    }
    digest(&text)
}

fn sorted(mut numbers: Vec<u16>) -> String {
    numbers.sort_unstable();
    list(&numbers)
}

fn list(numbers: &[u16]) -> String {
    numbers.iter().map(|number| format!("{number:04x}")).collect::<Vec<_>>().join(",")
}

fn digest(text: &str) -> String {
    if text.is_empty() {
        return NOTHING.into();
    }
    let mut digits: String =
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> ClientHello {
        ClientHello { version: 0x0303, ..ClientHello::default() }
    }

    /// The method's own example, a browser's hello.
    #[test]
    fn the_published_example_has_its_fingerprint() {
        let hello = ClientHello {
            ciphers: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            server_name: Some("www.example".into()),
            protocol: Some(b"h2".to_vec()),
            versions: vec![0x0304, 0x0303],
            signature_algorithms: vec![
                0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
            ],
            ..hello()
        };
        let client = TlsClient::of(&hello);
        assert_eq!(client.ja4, "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert_eq!(client.sni.as_deref(), Some("www.example"));
    }

    #[test]
    fn what_is_missing_has_its_own_signs() {
        assert_eq!(TlsClient::of(&hello()).ja4, "t12i000000_000000000000_000000000000");
        let named = ClientHello { extensions: vec![0, 16], version: 0x0301, ..hello() };
        assert_eq!(TlsClient::of(&named).ja4, "t10d000200_000000000000_000000000000");
        let many = ClientHello { ciphers: (0..120).collect(), version: 0x7f1c, ..hello() };
        assert!(TlsClient::of(&many).ja4.starts_with("t00i990000_"));
    }

    #[test]
    fn a_protocol_is_its_ends() {
        for (name, ends) in [
            (&b"http/1.1"[..], "h1"),
            (b"h2", "h2"),
            (b"x", "xx"),
            (b"", "00"),
            (&[0xab], "ab"),
            (&[0x30, 0xab], "3b"),
            (&[0xab, 0xcd, 0x31], "a1"),
        ] {
            assert_eq!(protocol_ends(name), ends, "{name:?}");
        }
    }
}
