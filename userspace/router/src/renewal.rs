//! The certificate's renewal: a new key, certified over the control channel, kept in the identity's file, then used.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nightgate_identity::{IdentityError, RequestError, TlsSetupError, key_and_request};
use nightgate_model::control::RouterMessage;
use tokio::{
    sync::{Mutex, MutexGuard, mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{Router, control::chain, own::Own};

/// Time between two looks at the end of the certificate.
const INTERVAL: Duration = Duration::from_secs(3600);

/// How long the controller may take to answer, or to be there again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a certificate was not renewed. The one before still counts, unless the file holds the new one: then that counts
/// as soon as the controller is reached with it.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The key or the request for it could not be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The controller is away.
    #[error("the controller does not answer")]
    NoController,
    /// The controller issued none.
    #[error("the controller issues no certificate: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The new certificate cannot be read, or not be saved.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The new certificate does not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// The controller's answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Certificate { certificate: String, ca: String },
    Refused { reason: String },
}

/// Where renewals and the control channel meet. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) own: Arc<watch::Sender<Arc<Own>>>,
    /// With what the controller was last reached.
    used: Arc<watch::Sender<Option<Arc<Own>>>>,
    answers: mpsc::Sender<Answer>,
    // Held while the certificate is renewed.
    answered: Arc<Mutex<mpsc::Receiver<Answer>>>,
}

impl Renewal {
    pub(crate) fn new(own: Own) -> Self {
        let (answers, answered) = mpsc::channel(1);
        Self {
            own: watch::Sender::new(Arc::new(own)).into(),
            used: watch::Sender::new(None).into(),
            answers,
            answered: Mutex::new(answered).into(),
        }
    }

    /// The controller accepts this.
    pub(crate) fn confirm(&self, own: &Arc<Own>) {
        self.used.send_if_modified(|used| {
            let is_news = used.as_ref().is_none_or(|used| !Arc::ptr_eq(used, own));
            *used = Some(Arc::clone(own));
            is_news
        });
    }

    /// The controller has answered. Nobody may be waiting any more.
    pub(crate) fn answer(&self, answer: Answer) {
        drop(self.answers.try_send(answer));
    }

    async fn wait_until_used(&self) -> Result<(), RenewError> {
        let own = Arc::clone(&self.own.borrow());
        let mut used = self.used.subscribe();
        let used = used.wait_for(|used| used.as_ref().is_some_and(|used| Arc::ptr_eq(used, &own)));
        match timeout(PATIENCE, used).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(RenewError::NoController),
        }
    }
}

impl Router {
    /// Gets a new key and a certificate that follows the present one, keeps both in the file that the identity was
    /// loaded from, and uses them from now on, towards the controller, other routers and clients. What stands goes on.
    ///
    /// The router does this by itself when two thirds of the certificate's life are over, if the identity was loaded
    /// from a file.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub async fn renew_certificate(&self) -> Result<(), RenewError> {
        let renewal = &self.renewal;
        let answered = renewal.answered.lock().await;
        // A certificate that the controller has not seen in use is not followed by another: a crash before that one were
        // kept would leave a file that the controller does not accept.
        renewal.wait_until_used().await?;
        let before = renewal.own.borrow().identity.clone();
        let (key, request) = key_and_request(self.id().as_str())?;
        let (certificate, ca) = self.certify(answered, request).await?;
        let identity = before.renewed(key, certificate, ca)?;
        let own = Own::new(identity)?;
        if let Some(path) = own.identity.path() {
            own.identity.save(path)?;
        }
        renewal.own.send_replace(Arc::new(own));
        info!("certificate renewed");
        renewal.wait_until_used().await
    }

    async fn certify(
        &self,
        mut answered: MutexGuard<'_, mpsc::Receiver<Answer>>,
        request: String,
    ) -> Result<(String, String), RenewError> {
        // An answer that nobody waited for is to another key.
        drop(answered.try_recv());
        self.wish(RouterMessage::Renew { request });
        match timeout(PATIENCE, answered.recv()).await {
            Ok(Some(Answer::Certificate { certificate, ca })) => Ok((certificate, ca)),
            Ok(Some(Answer::Refused { reason })) => Err(RenewError::Refused { reason }),
            Ok(None) | Err(_) => Err(RenewError::NoController),
        }
    }
}

/// Renews the certificate in time, where the new one can be kept.
pub(crate) async fn keep_certificate(router: Router) {
    loop {
        let identity = router.renewal.own.borrow().identity.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_due = identity.is_due(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let can_be_kept = identity.path().is_some();
        if is_due
            && can_be_kept
            && let Err(error) = router.renew_certificate().await
        {
            warn!(error = %chain(&error), "certificate not renewed; once it has ended, enroll anew");
        }
        sleep(INTERVAL).await;
    }
}
