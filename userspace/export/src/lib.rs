//! Records of flows on their way out of the gateway or tunneler: each output has a queue of its own, so that a slow one costs its own
//! records and nothing else. And copies of frames, to capture files.

mod capture;
mod file;
mod http;
mod outputs;
mod pcapng;
mod queue;
mod readers;
mod record;
mod syslog;

pub use capture::{Capture, CaptureError, Describe};
pub use http::HttpError;
pub use outputs::{Outputs, Sinks, host_name};
