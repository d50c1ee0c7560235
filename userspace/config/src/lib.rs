//! Configuration text to a checked model.
//!
//! [`parse`] is all or nothing: it returns a [`Config`] in which every reference resolves and every value is
//! in range, or every error it found, each with its line, its path and a remedy. Unknown keys are errors: in
//! a firewall a typing error is an open door.
//!
//! Pure: reads no files and knows no limits of the kernel programs (`ruleset` checks those).

mod config;
mod decode;
mod dns;
mod endpoint;
mod error;
mod firewall;
mod mirror;
mod names;
mod node;
mod ports;
mod prefix;
mod reader;
mod rule;

pub use config::{Config, Gateway, Router};
pub use dns::Dns;
pub use endpoint::Endpoint;
pub use error::ConfigError;
pub use firewall::Zone;
pub use mirror::{Mirror, Sensor, Session};
pub use names::{InterfaceName, RuleId, SensorName, SessionName, ZoneName};
pub use ports::PortRange;
pub use prefix::Prefix;
pub use rule::{Action, Protocol, Rule};

/// Parses a configuration file's text. `file` is only named in errors.
///
/// # Errors
/// Everything that is wrong with the text, in the order of its lines.
pub fn parse(text: &str, file: &str) -> Result<Config, Vec<ConfigError>> {
    let mut reader = reader::Reader::new(file);
    let config = node::parse(text, &mut reader).and_then(|root| config::decode(&mut reader, root));
    reader.finish(config)
}
