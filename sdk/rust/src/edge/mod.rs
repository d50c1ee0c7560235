//! Channels to edge routers: one TLS connection each, shared by all circuits through that router.

mod channel;
mod connect;
mod driver;
mod pool;
mod queue;

pub(crate) use channel::{Channel, Event, PayloadSender, Port, PortKind};
pub(crate) use pool::Pool;
pub(crate) use queue::{Closed, Receiver};

#[cfg(test)]
pub(crate) use connect::greet;
#[cfg(test)]
pub(crate) use driver::FrameReader;
