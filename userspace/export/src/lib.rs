//! Records of flows on their way out of the gateway: each output has a queue of its own, so that a slow one costs its own
//! records and nothing else.

mod file;
mod outputs;
mod queue;

pub use outputs::Outputs;
