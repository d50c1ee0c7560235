use std::io;

use rtnetlink::Error as RequestError;

/// What could not be done to the host's network configuration, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The rtnetlink socket could not be opened.
    #[error("cannot open a netlink socket: {source}; the process needs the AF_NETLINK family")]
    Connect {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("cannot {operation} {object}: {source}; {remedy}")]
    Request {
        /// What was attempted, as a verb phrase.
        operation: &'static str,
        /// What it was attempted on: an interface, a route, a rule.
        object: String,
        /// The kernel's answer.
        source: io::Error,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// No interface has this name.
    #[error("no interface is named {name:?}; create it or correct the name in the configuration")]
    NoInterface {
        /// The name looked for.
        name: String,
    },
    /// The kernel described an interface or a route without something every one of them has.
    #[error(
        "the kernel's answer about {object} has no {missing}; expected it on Linux 5.15 or later"
    )]
    Incomplete {
        /// What was asked about.
        object: String,
        /// What the answer lacks.
        missing: &'static str,
    },
    /// A name the product needs for itself belongs to an interface of another kind.
    #[error("interface {name} exists and is not a veth; rename or delete it, the mirror needs it")]
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// An offload is still on after it was switched off.
    #[error(
        "{feature} of {interface} stays on after switching it off; the driver fixes it, so a sensor would see wrong checksums"
    )]
    OffloadStuck {
        /// The interface.
        interface: String,
        /// The offload, as `ethtool -k` names it.
        feature: &'static str,
    },
    /// A kernel parameter could not be written.
    #[error("cannot write {value} to {path}: {source}; /proc/sys must be writable")]
    Sysctl {
        /// File below /proc/sys.
        path: String,
        /// What was to be written.
        value: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetlinkError {
    pub(crate) fn request(
        operation: &'static str,
        object: impl Into<String>,
        error: RequestError,
    ) -> Self {
        Self::io(operation, object, into_io(error))
    }

    pub(crate) fn io(
        operation: &'static str,
        object: impl Into<String>,
        source: io::Error,
    ) -> Self {
        let remedy = remedy(source.raw_os_error());
        Self::Request { operation, object: object.into(), source, remedy }
    }
}

/// Reports whether `error` is the kernel's answer `errno`.
pub(crate) fn is_errno(error: &RequestError, errno: i32) -> bool {
    matches!(error, RequestError::NetlinkError(message) if message.raw_code() == -errno)
}

fn into_io(error: RequestError) -> io::Error {
    match error {
        RequestError::NetlinkError(message) => message.to_io(),
        other @ (RequestError::UnexpectedMessage(_)
        | RequestError::RequestFailed
        | RequestError::NamespaceError(_)
        | RequestError::InvalidHardwareAddress(_)
        | RequestError::InvalidIp(_)
        | RequestError::InvalidAddress(..)
        | RequestError::InvalidNla(_)) => io::Error::other(other),
    }
}

fn remedy(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM) => "run as root or grant CAP_NET_ADMIN",
        Some(libc::EACCES) => "IPv6 may be disabled there; enable it with sysctl net.ipv6.conf",
        Some(libc::EEXIST) => "remove the existing one or choose another",
        Some(libc::ENODEV) => "the interface is gone; start again once it is back",
        Some(libc::ENETDOWN) => "bring the interface up first",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "give the interface an address or route in the destination's network"
        }
        Some(libc::EOPNOTSUPP) => "this kernel or driver lacks the feature",
        _ => "check it with the `ip` command",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_names_operation_object_and_remedy() {
        let error =
            NetlinkError::io("add address", "10.0.0.1/24 on lan0", io::Error::from_raw_os_error(1));
        let text = error.to_string();
        assert!(text.starts_with("cannot add address 10.0.0.1/24 on lan0: "), "{text}");
        assert!(text.ends_with("; run as root or grant CAP_NET_ADMIN"), "{text}");
    }
}
