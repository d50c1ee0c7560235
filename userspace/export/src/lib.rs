//! Records of flows on their way out of the gateway: each output has a queue of its own, so that a slow one costs its own
//! records and nothing else.

mod file;
mod http;
mod outputs;
mod queue;
mod record;
mod syslog;

pub use http::HttpError;
pub use outputs::Outputs;
