//! Logs and metrics of every role.
//!
//! Logs go to standard error: a fixed message, with the values as fields. Metrics are counters in one
//! [`Metrics`] registry that is rendered as Prometheus text on request.

mod line_file;
mod logging;
pub mod metrics;
mod registry;
mod rotation;
mod scrape;
mod socket;

pub use line_file::LineFile;
pub use logging::{LEVEL_VARIABLE, LogFormat, LoggingError, init_logging};
pub use registry::{
    DatagramLoss, DnsOutcome, End, KernelSnapshot, Metrics, MetricsError, RecordFate,
};
pub use rotation::RotatingFile;
pub use scrape::Scrape;
pub use socket::{SCRAPER_RIGHTS, open_socket};
