//! What a router may do while it does not hear the controller.

use std::{path::PathBuf, time::Duration};

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// What a router may do while it does not hear the controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offline {
    /// How long it allows new circuits by the model it has, also after a restart; up to 365 days. Default 24 h.
    pub limit: Duration,
    /// Where it keeps the model. A relative path is relative to the configuration file; without one it is beside the
    /// identity file.
    pub file: Option<PathBuf>,
}

impl Default for Offline {
    fn default() -> Self {
        Self { limit: Duration::from_secs(86_400), file: None }
    }
}

/// Longest limit.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Offline> {
    let mut section = reader.section(node)?;
    let limit = reader
        .optional(&mut section, "for", |reader, node| decode::checked(reader, node, parse_limit));
    let file = reader.optional(&mut section, "file", decode::path);
    reader.close(section);
    Some(Offline { limit: limit?.unwrap_or_else(|| Offline::default().limit), file: file? })
}

fn parse_limit(text: &str) -> Result<Duration, Malformed> {
    decode::duration(text).filter(|limit| *limit <= LONGEST).ok_or_else(|| {
        Malformed::new("a time up to 365d", "write whole seconds, minutes, hours or days: 24h")
    })
}
