//! Certificates that follow others. Routers ask for theirs on the control channel.

use std::sync::Arc;

use nightgate_model::id::RouterId;
use nightgate_pki::RequestError;
use nightgate_store::{
    Author, Certificate, EnrollmentTarget, Model, OfferedCertificate, Step, StoreError,
};

use super::Core;
use crate::{Address, clock};

/// Why a router gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    /// The request does not do.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who renews, for the audit log.
fn author() -> Author {
    Author { id: String::new(), name: "renewal".into() }
}

/// Issues the certificate that follows a router's present one, for the host that it enrolled with. When this returns,
/// routers are being told of it.
///
/// # Errors
/// The request does not do, or the store fails.
pub(crate) async fn renew_router(
    core: &Arc<Core>,
    router: &RouterId,
    request: &str,
) -> Result<String, RenewalError> {
    let address = core.read(|memory| memory.model.routers.get(router)?.entity.address.clone());
    // What an enrollment has stored can be read.
    let address = address.and_then(|address| address.parse::<Address>().ok());
    let host = address.as_ref().map(Address::host);
    let issued = core.authority.sign_router(request.as_bytes(), router, host, clock::now())?;
    let chain = issued.chain_pem.clone();
    let offered = OfferedCertificate { fingerprint: issued.fingerprint, pem: issued.chain_pem };
    let step = Step::OfferCertificate(EnrollmentTarget::Router(router.clone()), offered);
    core.edit(author(), |_| Ok::<_, RenewalError>((vec![step], ()))).await?;
    let index = core.read(|memory| memory.index);
    let mut published = core.subscribe();
    // It ends with the controller alone.
    drop(published.wait_for(|published| published.index >= index).await);
    Ok(chain)
}

/// Whoever has shown to hold the certificate that it was offered has begun to use it. `offered` tells whose it is.
///
/// # Errors
/// The store fails.
pub(crate) async fn begin_using(
    core: &Arc<Core>,
    fingerprint: String,
    offered: fn(&Model, &str) -> Option<(EnrollmentTarget, Certificate)>,
) -> Result<(), StoreError> {
    if core.read(|memory| offered(&memory.model, &fingerprint).is_none()) {
        return Ok(());
    }
    core.edit(author(), move |memory| {
        let offer = offered(&memory.model, &fingerprint);
        let step = offer.map(|(target, next)| Step::Certify(target, next));
        Ok((step.into_iter().collect(), ()))
    })
    .await
}
