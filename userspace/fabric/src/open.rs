//! The body of an `Open` frame.

use bytes::Bytes;
use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};
use nightgate_wire::{Headers, link::header};

use crate::{Dial, Offer};

/// Most routers on a path.
const MAX_PATH: usize = 16;

/// A request for a circuit, as it travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Open {
    pub(crate) path: Vec<RouterId>,
    pub(crate) offer: Offer,
}

impl Open {
    pub(crate) fn to_headers(&self) -> Headers {
        let path: Vec<&str> = self.path.iter().map(RouterId::as_str).collect();
        let dial = &self.offer.dial;
        let mut headers = Headers::new();
        headers
            .put_text(header::PATH, &path.join("\n"))
            .put_text(header::TERMINATOR, self.offer.terminator.as_str())
            .put_text(header::SERVICE, dial.service.as_str())
            .put_text(header::DIALER, dial.dialer.as_str())
            .put_text(header::INSTANCE, &dial.instance)
            .put_text(header::CALLER, &dial.caller)
            .put(header::PUBLIC_KEY, dial.public_key.clone())
            .put(header::APP_DATA, dial.app_data.clone());
        headers
    }

    /// Reads the headers; `None` when a field is missing or the path is empty, too long or a loop.
    pub(crate) fn from_headers(headers: &Headers) -> Option<Self> {
        let path: Vec<RouterId> =
            headers.text(header::PATH)?.split('\n').map(RouterId::new).collect();
        let loops = path.iter().enumerate().any(|(at, router)| path[..at].contains(router));
        if path.len() > MAX_PATH || loops {
            return None;
        }
        let bytes = |key| headers.bytes(key).cloned().unwrap_or_else(Bytes::new);
        let dial = Dial {
            service: ServiceId::new(headers.text(header::SERVICE)?),
            dialer: IdentityId::new(headers.text(header::DIALER)?),
            instance: headers.text(header::INSTANCE).unwrap_or_default().to_owned(),
            caller: headers.text(header::CALLER)?.to_owned(),
            public_key: bytes(header::PUBLIC_KEY),
            app_data: bytes(header::APP_DATA),
        };
        let terminator = TerminatorId::new(headers.text(header::TERMINATOR)?);
        Some(Self { path, offer: Offer { terminator, dial } })
    }
}
