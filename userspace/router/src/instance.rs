//! Whose an instance name is.

use nightgate_model::terminator::Terminator;

use crate::BindRequest;

/// An instance name that somebody else has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "another host has instance {0:?} of the service, with another secret or none; choose another name, or show the same \
     secret"
)]
pub struct InstanceTaken(String);

/// Whether the instance's name is this host's to use.
pub(crate) fn check(request: &BindRequest, held: &[Terminator]) -> Result<(), InstanceTaken> {
    let BindRequest { service, identity, instance, secret, .. } = request;
    let same = held.iter().filter(|it| it.service == *service && it.instance == *instance);
    let mut others = same.filter(|it| !it.admits(identity, secret));
    match others.next() {
        Some(_) if !instance.is_empty() => Err(InstanceTaken(instance.clone())),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::{
        id::{IdentityId, RouterId, ServiceId, TerminatorId},
        terminator::{Precedence, seal},
    };

    use super::*;

    fn request(identity: &str, instance: &str, secret: &[u8]) -> BindRequest {
        let service = ServiceId::new("s");
        BindRequest {
            secret: seal(&service, instance, secret),
            service,
            identity: IdentityId::new(identity),
            instance: instance.into(),
            precedence: Precedence::Default,
            cost: 0,
        }
    }

    fn held(identity: &str, instance: &str, secret: &[u8]) -> Vec<Terminator> {
        let BindRequest { service, identity: host, instance, secret, precedence, cost } =
            request(identity, instance, secret);
        let (id, router) = (TerminatorId::new("t"), RouterId::new("r"));
        vec![Terminator { id, service, router, host, instance, secret, precedence, cost }]
    }

    #[test]
    fn an_instance_is_shared_by_who_shows_its_secret() {
        let may_join = |identity, instance, secret, there: &[Terminator]| {
            check(&request(identity, instance, secret), there).is_ok()
        };
        let secret = held("bob", "blue", b"1234");
        assert!(may_join("bob", "blue", b"1234", &secret));
        assert!(may_join("eve", "blue", b"1234", &secret));
        assert!(may_join("eve", "red", b"", &secret));
        for (identity, shown) in
            [("bob", &b"4321"[..]), ("bob", b""), ("eve", b"4321"), ("eve", b"")]
        {
            assert!(!may_join(identity, "blue", shown, &secret), "{identity} {shown:?}");
        }
        let open = held("bob", "blue", b"");
        assert!(may_join("bob", "blue", b"", &open));
        assert!(!may_join("eve", "blue", b"", &open));
        assert!(!may_join("bob", "blue", b"1234", &open));
        assert!(may_join("eve", "", b"", &held("bob", "", b"")));
    }
}
