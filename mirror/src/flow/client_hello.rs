//! What a TLS client says first, in the clear: ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).

use super::tls::TlsClient;

/// Most bytes that are looked at; hellos with post-quantum key shares have some 1,800.
const MOST: usize = 4_096;
/// Most pieces that a hello may come in.
const PIECES: u8 = 16;

/// Record type of handshakes (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// Bytes of a record's header, and of a handshake message's (RFC 8446 sections 5.1 and 4).
const HEADERS: (usize, usize) = (5, 4);
/// Longest record (RFC 8446 section 5.1).
const LONGEST_RECORD: usize = 1 << 14;
/// Handshake type of ClientHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Bytes of `random` (RFC 8446 section 4.1.2).
const RANDOM: usize = 32;
/// Type of a `server_name` that is a host's (RFC 6066 section 3).
const HOST_NAME: u8 = 0;

/// Extensions that are looked into (IANA, TLS ExtensionType Values).
pub(super) mod extension {
    /// RFC 6066 section 3.
    pub(crate) const SERVER_NAME: u16 = 0;
    /// RFC 8446 section 4.2.3.
    pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
    /// RFC 7301 section 3.1.
    pub(crate) const ALPN: u16 = 16;
    /// RFC 8446 section 4.2.1.
    pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
}

/// Reads a ClientHello from the first bytes of a connection, however they are cut.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// What came before, if it did not suffice.
    before: Vec<u8>,
    pieces: u8,
}

/// What the bytes so far say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Look {
    /// It may become a ClientHello.
    Undecided,
    /// It is one.
    Hello(TlsClient),
    /// It is none, or too long.
    Other,
}

/// A ClientHello. Values for extensibility (GREASE, RFC 8701) are left out.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct ClientHello {
    /// The version of the message itself.
    pub(super) version: u16,
    pub(super) ciphers: Vec<u16>,
    /// Types of its extensions, in their order.
    pub(super) extensions: Vec<u16>,
    pub(super) server_name: Option<String>,
    /// The first of its application protocols.
    pub(super) protocol: Option<Vec<u8>>,
    pub(super) versions: Vec<u16>,
    pub(super) signature_algorithms: Vec<u16>,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// The rest is missing.
    Short,
    Other,
}

impl HelloReader {
    /// Looks at the next bytes of the connection. To be asked no more once it has decided.
    pub fn look(&mut self, bytes: &[u8]) -> Look {
        self.pieces = self.pieces.saturating_add(1);
        let read = if self.before.is_empty() {
            read(bytes)
        } else {
            let room = MOST.saturating_sub(self.before.len());
            self.before.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            read(&self.before)
        };
        match read {
            Ok(hello) => Look::Hello(TlsClient::of(&hello)),
            Err(Fault::Short) if self.keep(bytes) => Look::Undecided,
            Err(Fault::Short | Fault::Other) => Look::Other,
        }
    }

    /// Keeps the first bytes for the next look, if it is worth one.
    fn keep(&mut self, bytes: &[u8]) -> bool {
        if self.before.is_empty() {
            self.before.extend_from_slice(bytes.get(..MOST).unwrap_or(bytes));
        }
        self.pieces < PIECES && self.before.len() < MOST
    }
}

fn read(stream: &[u8]) -> Result<ClientHello, Fault> {
    let stream = stream.get(..MOST).unwrap_or(stream);
    let message = message(stream)?;
    ClientHello::read(&mut Bytes(&message)).ok_or(Fault::Other)
}

/// The first handshake message, without its header, out of the records that carry it.
fn message(mut stream: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut message = Vec::new();
    loop {
        check_record(stream)?;
        let (header, rest) = stream.split_at_checked(HEADERS.0).ok_or(Fault::Short)?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > LONGEST_RECORD {
            return Err(Fault::Other);
        }
        message.extend_from_slice(rest.get(..length).unwrap_or(rest));
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Fault::Other);
        }
        if let Some(&[_, high, middle, low]) = message.get(..HEADERS.1) {
            let length = HEADERS.1 + u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > MOST {
                return Err(Fault::Other);
            }
            if let Some(whole) = message.get(HEADERS.1..length) {
                return Ok(whole.to_vec());
            }
        }
        stream = rest.get(length..).ok_or(Fault::Short)?;
    }
}

/// Whether what is there of a record's header fits: most connections that are not TLS are told by their first byte.
fn check_record(stream: &[u8]) -> Result<(), Fault> {
    // The version of records is 3 and something (RFC 8446 section 5.1).
    let fits = stream.iter().zip([HANDSHAKE, 3]).all(|(found, expected)| *found == expected);
    if fits { Ok(()) } else { Err(Fault::Other) }
}

impl ClientHello {
    fn read(message: &mut Bytes<'_>) -> Option<Self> {
        let mut hello = Self { version: message.number()?, ..Self::default() };
        message.take(RANDOM)?;
        let _session = message.short()?;
        hello.ciphers = numbers(message.long()?.0);
        let _compression = message.short()?;
        if message.0.is_empty() {
            // Extensions came with TLS 1.2.
            return Some(hello);
        }
        let mut extensions = message.long()?;
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let data = extensions.long()?;
            if !is_grease(kind) {
                hello.extensions.push(kind);
                // What is malformed inside an extension is the server's to refuse.
                hello.look_into(kind, data);
            }
        }
        Some(hello)
    }

    fn look_into(&mut self, kind: u16, mut data: Bytes<'_>) -> Option<()> {
        match kind {
            extension::SERVER_NAME => {
                let mut names = data.long()?;
                if names.take(1)? == [HOST_NAME] {
                    self.server_name = Some(text(names.long()?.0));
                }
            }
            extension::ALPN => self.protocol = Some(data.long()?.short()?.0.to_vec()),
            extension::SUPPORTED_VERSIONS => self.versions = numbers(data.short()?.0),
            extension::SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = numbers(data.long()?.0);
            }
            _ => {}
        }
        Some(())
    }
}

/// A name as it can be written: at most the 255 bytes of DNS (RFC 1035 section 2.3.4).
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..255).unwrap_or(name)).into_owned()
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    let number = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    bytes.chunks_exact(2).map(number).filter(|number| !is_grease(*number)).collect()
}

/// Whether a value stands for those that are still to come (RFC 8701 section 2).
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// Bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// What has its length in one byte before it.
    fn short(&mut self) -> Option<Self> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length)).map(Bytes)
    }

    /// What has its length in two bytes before it.
    fn long(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something with its length before it, in so many bytes.
    fn with_length(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - bytes..], content].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &with_length(2, data)].concat()
    }

    /// A hello with a GREASE value in each list.
    fn hello(name: &str) -> Vec<u8> {
        let server = [&[HOST_NAME][..], &with_length(2, name.as_bytes())].concat();
        let extensions = [
            extension(0x3a3a, &[]),
            extension(extension::SERVER_NAME, &with_length(2, &server)),
            extension(extension::ALPN, &with_length(2, &with_length(1, b"h2"))),
            extension(extension::SUPPORTED_VERSIONS, &[6, 0x1a, 0x1a, 3, 4, 3, 3]),
            extension(extension::SIGNATURE_ALGORITHMS, &[0, 4, 4, 3, 8, 4]),
        ]
        .concat();
        let body = [
            &[3, 3][..],
            &[7; RANDOM],
            &with_length(1, &[9; 32]),
            &with_length(2, &[0x0a, 0x0a, 0x13, 0x01]),
            &[1, 0],
            &with_length(2, &extensions),
        ]
        .concat();
        [&[CLIENT_HELLO][..], &with_length(3, &body)].concat()
    }

    /// Records of at most so many bytes that carry a message.
    fn records(message: &[u8], most: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &with_length(2, part)].concat();
        message.chunks(most).map(record).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_hello_says_who_is_asked_for_and_what_it_knows() {
        let stream = records(&hello("db.corp"), LONGEST_RECORD);
        let read = read(&stream).unwrap();
        let expected = ClientHello {
            version: 0x0303,
            ciphers: vec![0x1301],
            extensions: vec![0, 16, 43, 13],
            server_name: Some("db.corp".into()),
            protocol: Some(b"h2".to_vec()),
            versions: vec![0x0304, 0x0303],
            signature_algorithms: vec![0x0403, 0x0804],
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_hello_is_told_by_its_first_bytes() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-",
            &[HANDSHAKE, 2],
            &[HANDSHAKE, 3, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0xff, 0xff],
            &[HANDSHAKE, 3, 1, 0, 4, 2],
            &[HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 0, 0, 0],
        ] {
            assert_eq!(HelloReader::default().look(other), Look::Other, "{other:?}");
        }
        for begun in [&[][..], &[HANDSHAKE], &[HANDSHAKE, 3, 1, 0, 4]] {
            assert_eq!(HelloReader::default().look(begun), Look::Undecided, "{begun:?}");
        }
    }

    #[test]
    fn an_extension_that_is_malformed_inside_is_one_all_the_same() {
        let mut message = hello("db.corp");
        let place = message.windows(7).position(|it| it == b"db.corp").unwrap();
        // The length of the name.
        message[place - 1] = 200;
        let read = read(&records(&message, LONGEST_RECORD)).unwrap();
        assert_eq!((read.server_name, read.extensions.len()), (None, 4));
    }

    #[test]
    fn a_hello_that_does_not_end_is_given_up() {
        let endless = [HANDSHAKE, 3, 1, 0x0f, 0xff, CLIENT_HELLO, 0, 0x0f, 0xf8];
        let mut reader = HelloReader::default();
        assert_eq!(reader.look(&endless), Look::Undecided);
        let looks = (0..40).map(|_| reader.look(&[0])).take_while(|it| *it == Look::Undecided);
        assert_eq!(looks.count(), usize::from(PIECES) - 2);
        let mut reader = HelloReader::default();
        assert_eq!(reader.look(&endless), Look::Undecided);
        assert_eq!(reader.look(&[0; 2 * MOST]), Look::Other);
        assert!(reader.before.len() <= MOST);
    }

    proptest! {
        #[test]
        fn a_hello_is_the_same_however_it_is_cut(
            most in 1_usize..600, mut cuts in prop::collection::vec(0_usize..600, 0..8), rest in 0_usize..9,
        ) {
            let mut stream = records(&hello("db.corp"), most.max(40));
            let whole = HelloReader::default().look(&stream);
            prop_assert!(matches!(whole, Look::Hello(_)));
            stream.extend(vec![0xee; rest]);
            cuts.sort_unstable();
            cuts.push(stream.len());
            let mut reader = HelloReader::default();
            let mut from = 0;
            let mut last = Look::Undecided;
            for cut in cuts.into_iter().map(|cut| cut.min(stream.len())) {
                if last == Look::Undecided {
                    last = reader.look(&stream[from..cut]);
                }
                from = cut;
            }
            prop_assert_eq!(last, whole);
        }

        #[test]
        fn any_change_of_a_byte_is_taken(place in 0_usize..200, byte in any::<u8>()) {
            let mut stream = records(&hello("db.corp"), 50);
            let place = place % stream.len();
            stream[place] = byte;
            HelloReader::default().look(&stream);
        }
    }
}
