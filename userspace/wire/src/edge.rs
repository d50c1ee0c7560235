//! Numbers of the edge protocol between SDKs and routers (OpenZiti `edge_client.proto`).

/// Application protocol (RFC 7301) of the edge listener; clients of 2022 send none.
pub const ALPN: &[u8] = b"ziti-edge";

/// Content types.
pub mod content {
    /// Dialer to router: connect to the service of the session token in the body.
    pub const CONNECT: i32 = 60_783;
    /// The connection or binding stands.
    pub const STATE_CONNECTED: i32 = 60_784;
    /// The connection or binding is gone or was refused; the body says why.
    pub const STATE_CLOSED: i32 = 60_785;
    /// Payload.
    pub const DATA: i32 = 60_786;
    /// Router to host: somebody dials.
    pub const DIAL: i32 = 60_787;
    /// Host to router: accepted; the body is the new connection's id.
    pub const DIAL_SUCCESS: i32 = 60_788;
    /// Host to router: refused; the body says why.
    pub const DIAL_FAILED: i32 = 60_789;
    /// Host to router: hosts the service of the session token in the body.
    pub const BIND: i32 = 60_790;
    /// Host to router: hosts it no longer.
    pub const UNBIND: i32 = 60_791;
    /// Host to router: other cost or precedence for the bound service of the session token in the body.
    pub const UPDATE_BIND: i32 = 60_794;
    /// Host to router: how a check of the server behind the host went; the body is the bind session token.
    pub const HEALTH_EVENT: i32 = 60_795;
    /// Client to router: who is so many hops away on a connection's circuit?
    pub const TRACE_ROUTE: i32 = 60_796;
    /// The answer to [`TRACE_ROUTE`].
    pub const TRACE_ROUTE_RESPONSE: i32 = 60_797;
    /// Router to host: the controller knows of the hosting, so dials can come through other routers too.
    pub const BIND_SUCCESS: i32 = 60_800;
}

/// Header numbers.
pub mod header {
    /// Timing stamp of a data message, forwarded unread.
    pub const UUID: i32 = 128;
    /// `u32`: connection on this channel.
    pub const CONN_ID: i32 = 1000;
    /// `u32`: informational sequence.
    pub const SEQ: i32 = 1001;
    /// Text: API session token, in a hello.
    pub const SESSION_TOKEN: i32 = 1002;
    /// Key exchange public key.
    pub const PUBLIC_KEY: i32 = 1003;
    /// `u16`: static cost of a terminator.
    pub const COST: i32 = 1004;
    /// One byte: precedence of a terminator, see [`super::precedence`].
    pub const PRECEDENCE: i32 = 1005;
    /// Text: instance to dial, or hosted as.
    pub const TERMINATOR_IDENTITY: i32 = 1006;
    /// Bytes: what hosts of one instance have in common and nobody else knows.
    pub const TERMINATOR_IDENTITY_SECRET: i32 = 1007;
    /// Text: name of the dialing identity.
    pub const CALLER_ID: i32 = 1008;
    /// Encryption method; not forwarded, because SDKs disagree on its form.
    pub const CRYPTO_METHOD: i32 = 1009;
    /// `u32`: data flags, see [`super::flag`].
    pub const FLAGS: i32 = 1010;
    /// Opaque data from dialer to host.
    pub const APP_DATA: i32 = 1011;
    /// In a bind: flag, the router may choose connection ids. In a dial: the id it chose.
    pub const ROUTER_PROVIDED_CONN_ID: i32 = 1012;
    /// Flag: a check passed.
    pub const HEALTH_STATUS: i32 = 1013;
    /// `u64`: the asker's clock, repeated in the answer.
    pub const TIMESTAMP: i32 = 1015;
    /// `u32`: hops that a trace has left to go.
    pub const TRACE_HOP_COUNT: i32 = 1016;
    /// Text: what kind of thing a trace met.
    pub const TRACE_HOP_TYPE: i32 = 1017;
    /// Text: which one.
    pub const TRACE_HOP_ID: i32 = 1018;
    /// Text: why a trace did not get further.
    pub const TRACE_ERROR: i32 = 1020;
    /// Bytes: the host's listener.
    pub const LISTENER_ID: i32 = 1021;
    /// Flag of a bind: the host wants a `BindSuccess`.
    pub const SUPPORTS_BIND_SUCCESS: i32 = 1024;
    /// Text: circuit id, for logs.
    pub const CIRCUIT_ID: i32 = 1026;
    /// Text: the terminator that the dialer of a sticky service has reached, and wants to reach again.
    pub const STICKINESS_TOKEN: i32 = 1027;
    /// Text: id of the dialing identity.
    pub const DIALER_IDENTITY_ID: i32 = 1034;
    /// Text: name of the dialing identity.
    pub const DIALER_IDENTITY_NAME: i32 = 1035;
    /// Handshake of our end-to-end encryption, beside [`PUBLIC_KEY`]. Ours alone (the letters `NG`),
    /// so other clients ignore it.
    pub const HANDSHAKE: i32 = 0x4e47_0001;
    /// Sealed data that goes with a Connect or Dial; in the answers one byte, 1: the host took it. Ours alone.
    pub const EARLY_DATA: i32 = 0x4e47_0002;
}

/// Bits of the data flags (header 1010).
pub mod flag {
    /// The sender sends nothing more: half close.
    pub const FIN: u32 = 1;
    /// The sender takes messages of several parts.
    pub const MULTIPART: u32 = 4;
    /// The message has parts: see [`crate::datagrams`].
    pub const MULTIPART_MESSAGE: u32 = 16;
}

/// Values of the precedence (header 1005); what is none of them is the default.
pub mod precedence {
    /// As usual.
    pub const DEFAULT: u8 = 0;
    /// Before all others.
    pub const REQUIRED: u8 = 1;
    /// After all others.
    pub const FAILED: u8 = 2;
}

/// Lowest connection id that a router may choose; SDKs number their own from 1 up.
pub const ROUTER_CONN_IDS: u32 = 1 << 31;
