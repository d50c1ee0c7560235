//! What a gateway hosts with, beyond what services' configurations say.

use std::path::PathBuf;

use crate::{decode, node::Node, reader::Reader};

/// What a gateway hosts with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hosting {
    /// File with the secret that this gateway shows to host under instance names that other hosts have too.
    pub instance_secret_file: Option<PathBuf>,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Hosting> {
    let mut section = reader.section(node)?;
    let file = reader.optional(&mut section, "instance_secret_file", decode::path);
    reader.close(section);
    Some(Hosting { instance_secret_file: file? })
}
