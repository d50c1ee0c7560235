//! Any sequence of changes leaves memory and file the same.

use nightgate_model::{
    id::{IdentityId, RouterId},
    kind::EntityKind,
};
use nightgate_store::{
    By, Change, EnrollmentTarget, EnrollmentToken, OfferedCertificate, Step, Store as _, Timestamp,
};
use proptest::prelude::*;

use crate::support::*;

fn offered(id: &str) -> OfferedCertificate {
    OfferedCertificate { fingerprint: format!("offer-{id}"), pem: "PEM".into() }
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = proptest::sample::select(vec!["1", "2"]);
    (id, 0..26_u8).prop_map(|(id, which)| {
        let (i, r, s, p) = (format!("i{id}"), format!("r{id}"), format!("s{id}"), format!("p{id}"));
        match which {
            0 => create_identity(&i, &i),
            1 => delete(EntityKind::Identity, &i),
            2 => create_router(&r, &r, true),
            3 => create_router(&r, &r, false),
            4 => delete(EntityKind::EdgeRouter, &r),
            5 => create_service(&s, &s),
            6 => delete(EntityKind::Service, &s),
            7 => create_policy(&p, &p),
            8 => delete(EntityKind::ServicePolicy, &p),
            9 => redeem_identity(&i, &i, &i),
            10 => update_identity(&i, &i, true),
            11 => update_identity(&i, "i1", false),
            12 => {
                let identity = EnrollmentTarget::Identity(IdentityId::new(&i));
                vec![Step::Certify(identity, certificate("new"))].into()
            }
            23 => {
                let router = EnrollmentTarget::Router(RouterId::new(&r));
                vec![Step::Certify(router, certificate(&format!("renewed-{r}")))].into()
            }
            24 => {
                let router = EnrollmentTarget::Router(RouterId::new(&r));
                vec![Step::OfferCertificate(router, offered(&r))].into()
            }
            13 => vec![Step::DeleteEnrollment(EnrollmentToken::new(&i).id())].into(),
            14 => vec![Step::SetPassword(login(&i, &i))].into(),
            21 => vec![Step::EndSessions(IdentityId::new(&i), By::Certificate)].into(),
            22 => vec![Step::EndSessions(IdentityId::new(&i), By::Password)].into(),
            18 => {
                let tags = [("site".to_owned(), serde_json::json!("eu"))].into();
                vec![Step::SetTags(EntityKind::Identity, i, tags)].into()
            }
            17 => {
                let identity = EnrollmentTarget::Identity(IdentityId::new(&i));
                vec![Step::OfferCertificate(identity, offered(&i))].into()
            }
            16 => vec![Step::Decertify(IdentityId::new(&i))].into(),
            15 => vec![Step::RemovePassword(IdentityId::new(&i))].into(),
            _ => redeem_router(&r, &r, &r),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn memory_and_disk_hold_the_same_model(changes in proptest::collection::vec(any_change(), 0..24)) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut model = store.load().unwrap().model;
        for (at, change) in (1..).map(Timestamp).zip(&changes) {
            if store.apply(change, at).is_ok() {
                model.apply(change, at);
            }
        }
        prop_assert_eq!(store.load().unwrap().model, model);
    }
}
