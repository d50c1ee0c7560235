//! Ids of what is hosted behind this router.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_model::{
    entity::Terminator,
    id::{RouterId, TerminatorId},
};

use crate::BindRequest;

/// Ids that are in use. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TerminatorIds(Arc<Mutex<BTreeSet<TerminatorId>>>);

/// An id that nothing else has at this router, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: TerminatorId,
    ids: TerminatorIds,
}

impl TerminatorIds {
    /// The id of one of `known` that is the same host at this router, or a new one. With that of the model, others find a host
    /// again that comes back while no controller can tell them of it.
    pub(crate) fn take(
        &self,
        request: &BindRequest,
        router: &RouterId,
        known: &[Terminator],
    ) -> Taken {
        let mut used = self.used();
        let mut same = known.iter().filter(|it| {
            it.router == *router
                && it.service == request.service
                && it.host == request.identity
                && it.instance == request.instance
                && it.secret == request.secret
        });
        let id = match same.find(|it| !used.contains(&it.id)) {
            Some(known) => known.id.clone(),
            None => TerminatorId::new(uuid::Uuid::new_v4().simple().to_string()),
        };
        used.insert(id.clone());
        Taken { id, ids: self.clone() }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<TerminatorId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ids.used().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::{
        entity::Precedence,
        id::{IdentityId, ServiceId},
    };

    use super::*;

    fn known(id: &str, router: &str, host: &str) -> Terminator {
        Terminator {
            id: TerminatorId::new(id),
            service: ServiceId::new("web"),
            router: RouterId::new(router),
            host: IdentityId::new(host),
            instance: String::new(),
            secret: String::new(),
            precedence: Precedence::Default,
            cost: 7,
        }
    }

    fn request(host: &str) -> BindRequest {
        BindRequest {
            service: ServiceId::new("web"),
            identity: IdentityId::new(host),
            instance: String::new(),
            secret: String::new(),
            precedence: Precedence::Default,
            cost: 0,
        }
    }

    #[test]
    fn a_host_that_comes_back_has_the_id_that_others_know() {
        let here = RouterId::new("r1");
        let model = [
            known("other-router", "r2", "anna"),
            known("other-host", "r1", "bert"),
            known("first", "r1", "anna"),
            known("second", "r1", "anna"),
        ];
        let ids = TerminatorIds::default();
        let first = ids.take(&request("anna"), &here, &model);
        let second = ids.take(&request("anna"), &here, &model);
        assert_eq!([&first.id, &second.id].map(TerminatorId::as_str), ["first", "second"]);
        let third = ids.take(&request("anna"), &here, &model);
        assert!(model.iter().all(|known| known.id != third.id), "{third:?}");
        drop(first);
        assert_eq!(ids.take(&request("anna"), &here, &model).id.as_str(), "first");
        let stranger = ids.take(&request("carl"), &here, &model);
        assert!(model.iter().all(|known| known.id != stranger.id), "{stranger:?}");
    }
}
