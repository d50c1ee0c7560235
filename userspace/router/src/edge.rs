//! The edge listener: channels of SDKs and tunnelers, in OpenZiti's protocol.

pub(crate) mod client;
mod connection;
mod dialing;
mod hosting;
mod trace;
