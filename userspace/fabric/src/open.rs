//! The bodies of `Open` and `Opened` frames.

use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};
use nightgate_wire::{Headers, link::header};

use crate::{Dial, KeyShare, Offer};

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
            .put(header::APP_DATA, dial.app_data.clone());
        put_key_share(&mut headers, dial.key_share.clone());
        if !dial.session.is_empty() {
            headers.put(header::SESSION, dial.session.clone());
        }
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
        let dial = Dial {
            service: ServiceId::new(headers.text(header::SERVICE)?),
            dialer: IdentityId::new(headers.text(header::DIALER)?),
            instance: headers.text(header::INSTANCE).unwrap_or_default().to_owned(),
            caller: headers.text(header::CALLER)?.to_owned(),
            key_share: key_share(headers),
            app_data: headers.bytes(header::APP_DATA).cloned().unwrap_or_default(),
            session: headers.bytes(header::SESSION).cloned().unwrap_or_default(),
        };
        let terminator = TerminatorId::new(headers.text(header::TERMINATOR)?);
        let request = Some(headers.clone());
        Some(Self { path, offer: Offer { terminator, dial, request } })
    }
}

/// Writes one end's part of the agreement on keys, of an `Open` or `Opened` frame.
pub(crate) fn put_key_share(headers: &mut Headers, share: KeyShare) {
    headers.put(header::PUBLIC_KEY, share.public_key);
    if !share.handshake.is_empty() {
        headers.put(header::HANDSHAKE, share.handshake);
    }
}

/// Reads one end's part of the agreement on keys.
pub(crate) fn key_share(headers: &Headers) -> KeyShare {
    let bytes = |key| headers.bytes(key).cloned().unwrap_or_default();
    KeyShare { public_key: bytes(header::PUBLIC_KEY), handshake: bytes(header::HANDSHAKE) }
}
