//! The header sections in frames of links: the numbers of their fields, and what is signed of them.

use bytes::{BufMut as _, BytesMut};

use super::CircuitId;
use crate::headers::Headers;

/// Header numbers of frame bodies.
pub mod header {
    /// Hello, `u32`: [`crate::link::VERSION`].
    pub const VERSION: i32 = 1;
    /// Hello: link groups that the dialer dials, or the listener listens for, one per line.
    pub const GROUPS: i32 = 2;
    /// Open and Reroute: ids of all routers on the path, one per line, the dialer's first.
    pub const PATH: i32 = 10;
    /// Open, text: terminator.
    pub const TERMINATOR: i32 = 11;
    /// Open, text: service.
    pub const SERVICE: i32 = 12;
    /// Open, text: dialing identity.
    pub const DIALER: i32 = 13;
    /// Open, text: what the dialing identity calls itself towards the host.
    pub const CALLER: i32 = 14;
    /// Open and Opened: key exchange public key.
    pub const PUBLIC_KEY: i32 = 15;
    /// Open: opaque data from dialer to host.
    pub const APP_DATA: i32 = 16;
    /// Open, text: instance among the service's terminators; empty or missing for none.
    pub const INSTANCE: i32 = 17;
    /// Open and Opened: handshake of our end-to-end encryption.
    pub const HANDSHAKE: i32 = 18;
    /// Open, text: the service session token of the dialing identity.
    pub const SESSION: i32 = 19;
    /// Refused, text: cause, a closed list of words.
    pub const CAUSE: i32 = 20;
    /// Refused, text: for people.
    pub const DETAIL: i32 = 21;
    /// Open: by which a router that dials as itself proves it; a header section of
    /// [`super::proof`].
    pub const PROOF: i32 = 30;
    /// Open, 32 bytes: public key (Ed25519, RFC 8032) by which the dialer's end signs its Reroutes.
    pub const ANCHOR: i32 = 31;
    /// Reroute, eight bytes: the circuit that asks for another path.
    pub const CIRCUIT: i32 = 32;
    /// Reroute and Rerouted: the body of an [`crate::link::Ack`] frame.
    pub const ACK: i32 = 33;
    /// Refused and Unroute, two ids, one per line: the routers between which no link is left.
    pub const LOST: i32 = 34;
    /// Trace and Traced, `u32`: by which the asking end knows the answer.
    pub const TRACE: i32 = 35;
    /// Trace, `u32`: how many hops to go, at least 1. Traced: how many were left where it ended.
    pub const HOPS: i32 = 36;
    /// Traced, text: the router that answers.
    pub const ROUTER: i32 = 37;
    /// Traced, `u32` 1: the path ends there.
    pub const LAST: i32 = 38;
    /// Open: sealed data that goes with the dial. Opened, one byte, 1: the host took it.
    pub const EARLY_DATA: i32 = 39;
    /// Reroute, 64 bytes: signature over the circuit, the number of the path, the turn and the path.
    pub const SIGNATURE: i32 = 40;
    /// Reroute, eight bytes, big-endian: how many paths the dialer's end has asked for, with this one.
    pub const TURN: i32 = 41;
}

/// Header numbers of a host in a `Hosts`, whose header section has further sections, numbered from 0, each with hosts that are
/// numbered from 0.
pub mod host {
    /// Text: the terminator's id.
    pub const TERMINATOR: i32 = 1;
    /// Text: the service that is hosted.
    pub const SERVICE: i32 = 2;
    /// Text: the identity that hosts.
    pub const IDENTITY: i32 = 3;
    /// Text: instance among the service's terminators; missing for none.
    pub const INSTANCE: i32 = 4;
    /// Text: seal of the instance's secret; missing for none.
    pub const SECRET: i32 = 5;
    /// Text: precedence, as the word that people use.
    pub const PRECEDENCE: i32 = 6;
    /// `u32`: cost, 0 to 65535.
    pub const COST: i32 = 7;
}

/// Header numbers of the proof in an `Open`.
pub mod proof {
    /// When it was made: eight bytes, little-endian, milliseconds since the Unix epoch.
    pub const TIME: i32 = 1;
    /// `u32`: the signature's scheme (RFC 8446 section 4.2.3).
    pub const SCHEME: i32 = 2;
    /// The signature over [`super::signed`].
    pub const SIGNATURE: i32 = 3;
    /// The certificate whose key signed, DER; its issuers have the numbers that follow.
    pub const CHAIN: i32 = 10;
}

/// What a router signs that dials as itself: all of the `Open` but the proof, and when.
pub fn signed(circuit: CircuitId, headers: &Headers, time: u64) -> Vec<u8> {
    const CONTEXT: &[u8] = b"nightgate open 1\0";
    let mut rest = headers.clone();
    rest.remove(header::PROOF);
    let mut signed = BytesMut::from(CONTEXT);
    signed.put_u64(circuit.0);
    signed.put_u64(time);
    rest.encode(&mut signed);
    signed.into()
}
