use std::{fs, io};

use crate::{
    error::NetlinkError,
    family::Family,
    handle::Netlink,
    undo::{Step, Undo},
};

/// What lets the loopback interface take packets of this host whose destination is another: accept_local, and a
/// reverse path that may be any (ip-sysctl of Linux; of two values of rp_filter the higher one counts, and 1 would
/// refuse them).
const OWN_SOURCES: [(&str, &str); 2] = [("accept_local", "1"), ("rp_filter", "2")];

impl Netlink {
    /// Lets packets that this host has sent come in at the loopback interface. IPv6 has no such checks.
    ///
    /// # Errors
    /// A parameter cannot be read or written.
    pub fn admit_own_sources(&self) -> Result<Undo, NetlinkError> {
        let mut undo = Undo::nothing();
        for (parameter, value) in OWN_SOURCES {
            let path = format!("/proc/sys/net/ipv4/conf/lo/{parameter}");
            let before = fs::read_to_string(&path);
            fs::write(&path, value).map_err(|source| NetlinkError::Sysctl {
                path: path.clone(),
                value,
                source,
            })?;
            if let Ok(before) = before {
                undo.append(Undo::of(Step::Restore { path, before }));
            }
        }
        Ok(undo)
    }
}

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
