use std::{fs, io};

use crate::{error::NetlinkError, family::Family};

/// Writes `net.<family>.conf.<interface>.<parameter>`. A kernel built without IPv6 has no such
/// file: then there is nothing to set.
pub(crate) fn set(
    family: Family,
    interface: &str,
    parameter: &str,
    value: &'static str,
) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/{}/conf/{interface}/{parameter}", family.as_str());
    match fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(error) if family == Family::V6 && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(NetlinkError::Sysctl { path, value, source }),
    }
}
