//! Copies of packets for sensors: what the objects of gateways and tunnelers have in common.

pub(crate) mod copying;
mod maps;
mod path;
mod sending;
mod wrap;

pub(crate) use copying::{Due, copy_due};
pub(crate) use sending::send_on;
