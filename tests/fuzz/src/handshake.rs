//! The handshake of end-to-end encryption.

use std::sync::{Arc, LazyLock};

use nightgate_e2ee::{Binding, KeyPair, Own, Proposal, Protection};
use nightgate_identity::{Credentials, Identity};

const BINDING: Binding<'_> = Binding { service: "s", instance: "", app_data: b"" };

/// An identity of an authority that exists for this alone; its key is no secret.
static OWN: LazyLock<Own> = LazyLock::new(|| {
    let identity = Identity::from_json(include_str!("identity.json")).expect("the file is whole");
    let credentials = Credentials::new(&identity).expect("the certificate is its authority's");
    Own::keeping(Arc::new(credentials), &Arc::default())
});

/// What peers send: offers to a host, answers to a dialer, after a byte that says which. Without the key of an
/// identity nobody proves one, and what cannot be read never leads to the other method.
pub(crate) fn handshake(data: &[u8]) {
    let Some((side, message)) = data.split_first() else { return };
    let keys = KeyPair::generate().expect("the system has randomness");
    let own = keys.public_key().as_bytes();
    let agreed = if side % 2 == 0 {
        Protection::answer(Some(&keys), Some(&OWN), BINDING, own, message).map(|(_, it)| it)
    } else {
        let proposal = Proposal::new(Some(OWN.clone()), BINDING);
        proposal.and_then(|proposal| proposal.complete(own, message))
    };
    if let Ok(protection) = agreed {
        let is_left_out = message.is_empty() || (side % 2 == 0 && message[0] != 1);
        assert!(protection.peer.is_none() && is_left_out);
    }
}
