//! What is told of flows, and where to.

use std::{path::PathBuf, time::Duration};

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// What is told of flows that have ended, and where to: at least one output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowRecords {
    /// Time after which a flow that goes on is told of too, again and again; `None` for never.
    pub interim: Option<Duration>,
    /// A file of JSON lines.
    pub file: Option<RecordFile>,
}

/// A file of JSON lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordFile {
    /// Its path. Those before it have a number before its extension.
    pub path: PathBuf,
    /// Bytes after which another file is begun. Default 64 MiB.
    pub size: u64,
    /// Most files, the one that is written included. Default 5.
    pub files: u32,
}

/// Default of [`RecordFile::size`].
const SIZE: u64 = 64 << 20;
/// Bounds of it.
const SIZES: (i64, i64) = (4_096, 1 << 40);
/// Default of [`RecordFile::files`].
const FILES: u32 = 5;
/// Bounds of [`FlowRecords::interim`].
const INTERIM: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));

/// Decodes `telemetry`, which has `flows` alone.
pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<FlowRecords> {
    let mut section = reader.section(node)?;
    let flows = reader.required(&mut section, "flows", flows);
    reader.close(section);
    flows
}

fn flows(reader: &mut Reader<'_>, node: Node) -> Option<FlowRecords> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let interim = reader.optional(&mut section, "interim", |reader, node| {
        decode::checked(reader, node, |text| {
            let in_range = |time: &Duration| (INTERIM.0..=INTERIM.1).contains(time);
            decode::duration(text).filter(in_range).ok_or_else(|| {
                Malformed::new("a time from 10s to 1d", "write a number and s, m, h or d, like 5m")
            })
        })
    });
    let file = reader.optional(&mut section, "file", file);
    reader.close(section);
    let (interim, file) = (interim?, file?);
    if file.is_none() {
        let remedy = "say where records go, or remove `telemetry`";
        reader.report(line, "no output", "file", remedy);
        return None;
    }
    Some(FlowRecords { interim, file })
}

fn file(reader: &mut Reader<'_>, node: Node) -> Option<RecordFile> {
    let mut section = reader.section(node)?;
    let path = reader.required(&mut section, "path", |reader, node| {
        decode::checked(reader, node, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() && path.file_name().is_some() {
                Ok(path)
            } else {
                let remedy = "write it from the root on, like /var/log/nightgate/flows.jsonl";
                Err(Malformed::new("the absolute path of a file", remedy))
            }
        })
    });
    let size = reader.optional(&mut section, "size", |reader, node| {
        decode::integer(reader, node, SIZES.0, SIZES.1)
    });
    let files = reader
        .optional(&mut section, "files", |reader, node| decode::integer(reader, node, 1, 1_000));
    reader.close(section);
    Some(RecordFile { path: path?, size: size?.unwrap_or(SIZE), files: files?.unwrap_or(FILES) })
}
