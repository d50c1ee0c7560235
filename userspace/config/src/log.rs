//! Whether packets are logged.

use crate::{
    node::{Node, Value},
    reader::Reader,
};

/// Whether packets are logged: the first of a flow, and what is refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Log {
    /// They are not.
    #[default]
    No,
    /// They are.
    Yes,
}

/// Decodes `true` or `false`.
pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Log> {
    match node.value {
        Value::Bool(true) => Some(Log::Yes),
        Value::Bool(false) => Some(Log::No),
        Value::Null | Value::Integer(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            let found = node.value.describe();
            reader.report(node.line, found, "true or false", "write one of the two, unquoted");
            None
        }
    }
}
