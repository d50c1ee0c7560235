//! Who may dial and host what, through which routers.

use std::sync::Arc;

use nightgate_fabric::{Command, Dial, FailureCause, Lane};
use nightgate_model::{
    authorization::Terms,
    entity::{self, Permission, Precedence, Terminator, TerminatorSetting, TerminatorStrategy},
    id::{IdentityId, ServiceId, TerminatorId},
    replica::{Replica, ReplicaRouter},
};

use crate::row::{Row, dial, router_id, terminator};

#[test]
fn a_dial_without_a_policy_is_refused_at_the_first_router() {
    let mut row = Row::new(2);
    row.replica.authorizations = Default::default();
    row.publish();
    row.take_events();
    let refusal = row.routers[0].dial(dial(), Lane::default(), row.now).unwrap_err();
    assert_eq!(refusal.cause, FailureCause::Unauthorized);
    assert_eq!(refusal.detail, "no policy lets identity anna dial service web");
}

#[test]
fn a_dial_reaches_the_instance_it_names_and_no_other() {
    let mut row = Row::new(2);
    let blue =
        Terminator { id: TerminatorId::new("blue"), instance: "blue".into(), ..terminator(1) };
    Arc::make_mut(&mut row.replica.terminators).push(blue.clone());
    row.publish();
    row.last().host(blue);
    row.take_events();
    for (instance, expected) in [("", "t"), ("blue", "blue")] {
        let named = Dial { instance: instance.into(), ..dial() };
        let now = row.now;
        row.routers[0].dial(named, Lane::default(), now).unwrap();
        let events = row.take_events();
        let [(1, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((offer.terminator.as_str(), &*offer.dial.instance), (expected, instance));
    }
    let unknown = Dial { instance: "red".into(), ..dial() };
    let refusal = row.routers[0].dial(unknown, Lane::default(), row.now).unwrap_err();
    assert_eq!(refusal.cause, FailureCause::NoTerminator);
    assert!(refusal.detail.contains("red"), "{refusal}");
}

/// The terminator that a dial of the first router reaches.
fn chosen(row: &mut Row) -> String {
    row.take_events();
    let now = row.now;
    row.routers[0].dial(dial(), Lane::default(), now).unwrap();
    let events = row.take_events();
    let [(1, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
    offer.terminator.as_str().to_owned()
}

#[test]
fn precedence_comes_before_cost() {
    let mut row = Row::new(2);
    let dear = Terminator { id: TerminatorId::new("dear"), cost: 60_000, ..terminator(1) };
    Arc::make_mut(&mut row.replica.terminators).push(dear.clone());
    row.publish();
    row.last().host(dear);
    assert_eq!(chosen(&mut row), "t");

    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Failed;
    row.publish();
    assert_eq!(chosen(&mut row), "dear");

    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Required;
    Arc::make_mut(&mut row.replica.terminators)[1].cost = 0;
    row.publish();
    assert_eq!(chosen(&mut row), "t");
}

#[test]
fn what_operators_decide_comes_before_what_hosts_say() {
    let mut row = Row::new(2);
    let dear = Terminator {
        id: TerminatorId::new("dear"),
        host: IdentityId::new("anna"),
        cost: 60_000,
        ..terminator(1)
    };
    let (anna, web) = (dear.host.clone(), ServiceId::new("web"));
    row.replica.authorizations.grant(anna.clone(), Permission::Bind, web.clone());
    Arc::make_mut(&mut row.replica.terminators).push(dear.clone());
    row.publish();
    row.last().host(dear);
    assert_eq!(chosen(&mut row), "t");
    for (setting, expected) in [
        (TerminatorSetting { cost: Some(0), ..TerminatorSetting::none(anna.clone(), "") }, "dear"),
        (TerminatorSetting::none(anna, ""), "t"),
        (
            TerminatorSetting {
                precedence: Some(Precedence::Failed),
                ..TerminatorSetting::none(IdentityId::new("hugo"), "")
            },
            "dear",
        ),
    ] {
        let services = Arc::make_mut(&mut row.replica.services);
        services.get_mut(&web).unwrap().decide(setting.clone());
        row.publish();
        assert_eq!(chosen(&mut row), expected, "{setting:?}");
    }
}

#[test]
fn the_terminating_router_checks_policy_for_itself() {
    let mut row = Row::new(3);
    let mut without_anna = row.replica.clone();
    without_anna.authorizations = Default::default();
    let (hugo, web) = (IdentityId::new("hugo"), ServiceId::new("web"));
    without_anna.authorizations.grant(hugo, Permission::Bind, web);
    let now = row.now;
    row.last().handle_replica(Arc::new(without_anna), now);
    row.take_events();
    let end = row.routers[0].dial(dial(), Lane::default(), row.now).unwrap();
    let events = row.take_events();
    let [(0, Command::Refused(refused, refusal))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*refused, refusal.cause), (end, FailureCause::Unauthorized));
}

#[test]
fn hosting_without_a_policy_ends_at_once() {
    let mut row = Row::new(1);
    row.replica.authorizations = Default::default();
    row.publish();
    row.take_events();
    row.last().host(terminator(0));
    assert_eq!(row.take_events(), [(0, Command::Unbind(TerminatorId::new("t")))]);
}

/// Takes away the routers that one side may use, or that may carry the service.
fn without(replica: &Replica, change: impl Fn(&mut Terms)) -> Replica {
    let mut terms = Terms::from(replica.authorizations.clone());
    change(&mut terms);
    Replica { authorizations: terms.into(), ..replica.clone() }
}

#[test]
fn a_dial_through_a_router_that_no_policy_gives_is_refused() {
    for change in [(|terms| terms.identity_routers.clear()) as fn(&mut Terms), |terms| {
        terms.service_routers.clear()
    }] {
        let mut row = Row::new(2);
        let revoked = without(&row.replica, change);
        let now = row.now;
        row.routers[0].handle_replica(Arc::new(revoked), now);
        row.take_events();
        let refusal = row.routers[0].dial(dial(), Lane::default(), row.now).unwrap_err();
        assert_eq!(refusal.cause, FailureCause::Unauthorized);
        assert!(refusal.detail.contains("edge-router policies"), "{}", refusal.detail);
    }
}

#[test]
fn a_circuit_ends_when_a_router_of_its_ends_may_not_be_used_any_more() {
    for (side, name) in [(0, "anna"), (2, "hugo")] {
        let mut row = Row::new(3);
        let (dialer, host) = row.connect();
        row.replica = without(&row.replica, |terms| {
            terms.identity_routers.retain(|rule| rule.from != [entity::Role::Id(name.into())]);
        });
        row.publish();
        let events = row.take_events();
        let end = if side == 0 { dialer } else { host };
        let closed = Command::Closed(end, FailureCause::Unauthorized);
        assert!(events.contains(&(side, closed)), "{name}: {events:?}");
        assert!(row.routers.iter().all(|router| router.circuits().is_empty()));
    }
}

#[test]
fn a_revoked_policy_ends_running_circuits_and_the_hosting() {
    let mut row = Row::new(3);
    let (dialer, host) = row.connect();
    row.replica.authorizations = Default::default();
    row.publish();
    let events = row.take_events();
    assert!(events.contains(&(0, Command::Closed(dialer, FailureCause::Unauthorized))));
    assert!(events.contains(&(2, Command::Unbind(TerminatorId::new("t")))));
    assert!(events.iter().any(|(at, event)| *at == 2
        && matches!(event, Command::Closed(end, _) if *end == host)));
    assert!(row.routers.iter().all(|router| router.circuits().is_empty()));
}

/// Where forty dials go, of which none lasts: to terminators that cost 0, 20 and 40.
fn spread(strategy: TerminatorStrategy) -> [usize; 3] {
    let mut row = Row::new(2);
    let costs = [("t", 0), ("u", 20), ("v", 40)];
    let terminators =
        costs.map(|(id, cost)| Terminator { id: TerminatorId::new(id), cost, ..terminator(1) });
    row.replica.terminators = Arc::new(terminators.to_vec());
    let services = Arc::make_mut(&mut row.replica.services);
    services.get_mut(&ServiceId::new("web")).unwrap().terminator_strategy = strategy;
    row.publish();
    terminators.into_iter().for_each(|terminator| row.last().host(terminator));
    let mut counts = [0; 3];
    for _ in 0..40 {
        row.take_events();
        let now = row.now;
        let end = row.routers[0].dial(dial(), Lane::default(), now).unwrap();
        let events = row.take_events();
        let [(1, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
        let taken = costs.iter().position(|(id, _)| *id == offer.terminator.as_str());
        counts[taken.unwrap()] += 1;
        row.routers[0].close(end, now);
    }
    counts
}

#[test]
fn a_services_strategy_says_which_terminator_is_taken() {
    assert_eq!(spread(TerminatorStrategy::SmartRouting), [40, 0, 0]);
    assert_eq!(spread(TerminatorStrategy::Sticky), [40, 0, 0]);
    let random = spread(TerminatorStrategy::Random);
    assert!(random.iter().all(|count| *count > 4), "{random:?}");
    let weighted = spread(TerminatorStrategy::Weighted);
    assert!(weighted.iter().all(|count| *count > 4), "{weighted:?}");
}

#[test]
fn a_sticky_dialer_comes_back_to_its_terminator_while_it_is_there() {
    let mut row = Row::new(2);
    let services = Arc::make_mut(&mut row.replica.services);
    services.get_mut(&ServiceId::new("web")).unwrap().terminator_strategy =
        TerminatorStrategy::Sticky;
    row.publish();
    Arc::make_mut(&mut row.replica.terminators)[0].cost = 500;
    row.publish();
    assert_eq!(chosen(&mut row), "t");
    let cheaper = Terminator { id: TerminatorId::new("cheaper"), ..terminator(1) };
    Arc::make_mut(&mut row.replica.terminators).push(cheaper.clone());
    row.publish();
    row.last().host(cheaper);
    assert_eq!(chosen(&mut row), "t", "although another costs less now");
    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Failed;
    row.publish();
    assert_eq!(chosen(&mut row), "cheaper", "no cost is worth a better precedence");
    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Default;
    row.publish();
    assert_eq!(chosen(&mut row), "cheaper");

    // What the dialer remembers comes before what the router does.
    for (remembered, expected) in
        [("t", "t"), ("cheaper", "cheaper"), ("t", "t"), ("gone", "cheaper")]
    {
        row.routers[0].recall(&dial(), &TerminatorId::new(remembered));
        assert_eq!(chosen(&mut row), expected, "{remembered}");
    }
    let services = Arc::make_mut(&mut row.replica.services);
    services.get_mut(&ServiceId::new("web")).unwrap().terminator_strategy =
        TerminatorStrategy::SmartRouting;
    row.publish();
    row.routers[0].recall(&dial(), &TerminatorId::new("t"));
    assert_eq!(chosen(&mut row), "cheaper", "not a sticky service");
}

#[test]
fn a_router_that_lets_nothing_through_refuses_whoever_has_not_heard_of_it() {
    let mut row = Row::new(3);
    let closed = ReplicaRouter {
        id: router_id(1),
        name: "r1".into(),
        fingerprint: String::new(),
        offered: None,
        origin: String::new(),
        address: None,
        cost: 0,
        no_traversal: true,
    };
    let replica = Replica { routers: vec![closed], ..row.replica.clone() };
    let now = row.now;
    row.routers[1].handle_replica(Arc::new(replica.clone()), now);
    row.take_events();
    row.routers[0].dial(dial(), Lane::default(), now).unwrap();
    let events = row.take_events();
    let [(0, Command::Refused(_, refusal))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(refusal.cause, FailureCause::NoRoute);
    row.replica = replica;
    row.publish();
    let refusal = row.routers[0].dial(dial(), Lane::default(), now).unwrap_err();
    assert!(refusal.detail.contains("no links lead"), "{refusal}");
}
