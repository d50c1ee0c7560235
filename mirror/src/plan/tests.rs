use super::*;

const SENSORS: &str = "  sensors:
    ids: { address: 10.9.0.2, interface: mon0 }
    ids6: { address: 'fd09::2', interface: mon1, udp_port: 8472 }
";

fn mirror(sessions: &[&str]) -> Mirror {
    let sessions: String =
        sessions.iter().map(|session| format!("    - {{ {session} }}\n")).collect();
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n\
         mirror:\n{SENSORS}  sessions:\n{sessions}"
    );
    nightgate_config::parse(&text, "test").unwrap().gateway.unwrap().mirror.unwrap()
}

fn name(text: &str) -> SensorName {
    SensorName::new(text).unwrap()
}

fn path(ifindex: u32, mtu: u32, source: &str) -> SensorPath {
    SensorPath { ifindex, mtu, source: Some(source.parse().unwrap()), cuts: false }
}

fn paths() -> BTreeMap<SensorName, SensorPath> {
    BTreeMap::from([
        (name("ids"), path(7, 1_550, "10.9.0.1")),
        (name("ids6"), path(8, 1_570, "fd09::1")),
    ])
}

#[test]
fn sessions_are_numbered_in_order_and_services_point_to_them() {
    let mirror = mirror(&[
        "id: web, services: [web, api], sensor: ids, vni: 42",
        "id: db, services: [db], sensor: ids6, vni: 43",
    ]);
    let plan = Plan::new(&mirror, &paths(), 1_500).unwrap();
    let [web, db] = plan.sessions() else { panic!("{plan:?}") };
    assert_eq!((web.id.number(), web.name.as_str()), (1, "web"));
    assert_eq!(
        plan.sensors()[1].value,
        MirrorSensor {
            address: Address::from("fd09::2".parse::<IpAddr>().unwrap()),
            source: Address::from("fd09::1".parse::<IpAddr>().unwrap()),
            ifindex: 8,
            udp_port: 8_472,
            encapsulation: Wrapping::Vxlan.number(),
            cuts: 0,
        }
    );
    let mut expected = MirrorSession { vni: 43, ..MirrorSession::default() };
    expected.sensors[0] = 2;
    assert_eq!(db.value, expected);
    assert_eq!(plan.claim_of("api", None), mirror::claim(1, web.id));
    assert_eq!(plan.claim_of("db", Some("anybody")), mirror::claim(2, db.id));
    assert_eq!(plan.claim_of("mail", None), 0);
}

#[test]
fn sessions_of_identities_take_what_these_dial_in_the_order_of_the_list() {
    let mut mirror = mirror(&[
        "id: laptop, identities: [laptop], services: [web], sensor: ids",
        "id: web, services: [web], sensor: ids",
        "id: guests, identities: [guest, laptop], sensor: ids",
    ]);
    let plan = Plan::new(&mirror, &paths(), 1_500).unwrap();
    let places = |plan: &Plan| {
        let place = |service, dialer| plan.claim_of(service, dialer) >> 8;
        let dialers = [None, Some("laptop"), Some("guest")];
        [dialers.map(|it| place("web", it)), dialers.map(|it| place("mail", it))]
    };
    assert_eq!(places(&plan), [[2, 1, 2], [0, 3, 3]]);
    assert_eq!(plan.identities().collect::<BTreeSet<_>>(), ["guest", "laptop"].into());

    mirror.never.identities.push("guest".into());
    let plan = Plan::new(&mirror, &paths(), 1_500).unwrap();
    assert_eq!(plan.claim_of("web", Some("guest")), mirror::NEVER);
    assert_eq!(places(&plan)[0][..2], [2, 1]);
    mirror.never.services.push("mail".into());
    let plan = Plan::new(&mirror, &paths(), 1_500).unwrap();
    assert_eq!(plan.claim_of("mail", Some("laptop")), mirror::NEVER);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let mirror = mirror(&[
        "id: web, services: [web], sensor: ids, vni: 42",
        "id: again, services: [web], sensor: ids, vni: 42",
        "id: db, services: [db], sensor: ids6, vni: 42",
        "id: mail, services: [mail], sensor: ids6, vni: 43",
    ]);
    let mut paths = paths();
    paths.remove(&name("ids6"));
    let errors = Plan::new(&mirror, &paths, 1_500).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "mirror sensor ids6: no way by interface mon1 is known, expected a route by it",
            "service web: in mirror sessions web and again, expected one",
            "mirror sessions web and again: both use vni 42 on sensor ids, expected different \
             ones",
        ]
    );
}

#[test]
fn a_path_too_narrow_for_full_frames_is_refused_by_family() {
    for (sensor, mtu, expected) in [("ids", 1_549, 1_550), ("ids6", 1_569, 1_570)] {
        let mirror = mirror(&[&format!("id: web, services: [web], sensor: {sensor}, vni: 42")]);
        assert!(Plan::new(&mirror, &paths(), 1_500).is_ok());
        let mut paths = paths();
        paths.get_mut(&name(sensor)).unwrap().mtu = mtu;
        let errors = Plan::new(&mirror, &paths, 1_500).unwrap_err();
        assert!(
            matches!(errors[..], [PlanError::Mtu { expected: found, .. }] if found == expected),
            "{errors:?}"
        );
    }
}

#[test]
fn the_path_has_room_for_what_the_encapsulation_adds() {
    let kinds = [("vxlan", 1_550), ("geneve", 1_578), ("erspan", 1_550), ("gre", 1_542)];
    for (kind, expected) in kinds {
        for (vlan, tag) in [("", 0), (", vlan: service", 4), (", vlan: 7", 4)] {
            let session = format!("id: web, services: [web], sensor: ids{vlan}");
            let mut mirror = mirror(&[&session]);
            let sensor = mirror.sensors.get_mut(&name("ids")).unwrap();
            let mut kinds = Encapsulation::ALL.into_iter();
            sensor.encapsulation = kinds.find(|found| found.as_str() == kind).unwrap();
            for (mtu, is_enough) in [(expected + tag, true), (expected + tag - 1, false)] {
                let paths = BTreeMap::from([(name("ids"), path(7, mtu, "10.9.0.1"))]);
                let planned = Plan::new(&mirror, &paths, 1_500);
                assert_eq!(planned.is_ok(), is_enough, "{kind}{vlan}, MTU {mtu}: {planned:?}");
            }
        }
    }
}

#[test]
fn a_local_sensor_needs_neither_address_nor_room_and_sessions_share_it() {
    let mut mirror = mirror(&[
        "id: web, services: [web], sensor: ids",
        "id: db, services: [db], sensor: ids, vlan: 9",
    ]);
    let sensor = mirror.sensors.get_mut(&name("ids")).unwrap();
    (sensor.encapsulation, sensor.address) = (Encapsulation::Local, None);
    let path = SensorPath { ifindex: 7, mtu: 1_500, source: None, cuts: false };
    let paths = BTreeMap::from([(name("ids"), path)]);
    let plan = Plan::new(&mirror, &paths, 1_500).unwrap();
    assert_eq!(plan.sessions()[1].value.vlan, 9);
    assert_eq!(Plan::new(&mirror, &paths, 1_501).unwrap_err().len(), 1);
}

#[test]
fn sessions_without_an_identifier_have_their_number() {
    let mirror = mirror(&[
        "id: web, services: [web], sensor: ids, vni: 2",
        "id: db, services: [db], sensor: ids",
    ]);
    let errors = Plan::new(&mirror, &paths(), 1_500).unwrap_err();
    assert!(matches!(errors[..], [PlanError::SameVni { vni: 2, .. }]), "{errors:?}");
}

#[test]
fn a_sensor_that_no_session_uses_needs_no_path() {
    let mirror = mirror(&["id: web, services: [web], sensor: ids, vni: 42"]);
    let mut paths = paths();
    paths.remove(&name("ids6"));
    assert!(Plan::new(&mirror, &paths, 1_500).is_ok());
}

#[test]
fn a_source_of_the_other_family_is_refused() {
    let mirror = mirror(&["id: web, services: [web], sensor: ids, vni: 42"]);
    let paths = BTreeMap::from([(name("ids"), path(7, 9_000, "fd09::1"))]);
    let errors = Plan::new(&mirror, &paths, 1_500).unwrap_err();
    assert!(matches!(&errors[..], [PlanError::Family { .. }]), "{errors:?}");
}

#[test]
fn more_sessions_than_the_table_holds_are_refused() {
    let texts: Vec<_> = (0..65)
        .map(|n| format!("id: s{n}, services: [service-{n}], sensor: ids, vni: {n}"))
        .collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    assert!(Plan::new(&mirror(&texts[..64]), &paths(), 1_500).is_ok());
    let errors = Plan::new(&mirror(&texts), &paths(), 1_500).unwrap_err();
    assert_eq!(errors, [PlanError::TooManySessions { found: 65 }]);
}
