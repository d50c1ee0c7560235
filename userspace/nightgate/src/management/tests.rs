//! The commands against a running controller.

mod lab;

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use nightgate_model::network::Network;

use self::lab::Lab;
use super::*;

#[tokio::test]
async fn an_operator_goes_from_nothing_to_an_explained_policy() {
    let lab = Lab::start().await;
    let token = lab.file("alice.jwt");
    lab.run(&format!("identity create alice --attribute staff --jwt-out {token}")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&token).unwrap().matches('.').count(), 2);
    lab.run("router create gw --tunneler --attribute gateways --json").await.unwrap();
    lab.run("service create web --intercept web.corp:80 --host 10.2.0.2:8080").await.unwrap();
    let refused = lab.refused("explain dial alice web").await;
    assert_eq!(refused, "alice cannot dial web: there is no Dial policy");
    lab.run("policy create web-dial dial --identity #staff --service @web").await.unwrap();
    lab.run("policy create web-bind bind --identity @gw --service @web --all-of").await.unwrap();
    let refused = lab.refused("explain dial alice web").await;
    assert_eq!(refused, "alice cannot dial web: nobody hosts web now; gw may");
    for line in [
        "identity list",
        "auth-policy create certs --password false --max-attempts 3 --lockout 10",
        "auth-policy list",
        "identity update alice --auth-policy certs",
        "export",
        "identity update alice --auth-policy default",
        "auth-policy update certs --name certificates --expired-cert true --min-password-length 12",
        "auth-policy show certificates",
        "auth-policy delete certificates",
        "authenticator list",
        "enrollment list --json",
        "session list",
        "identity list --json",
        "identity show alice",
        "router list",
        "service list",
        "service show web --json",
        "policy list",
        "policy show web-dial",
        "policy update web-dial --identity #sales --identity @alice --semantic all-of",
        "service update web --name site --attributes a,b --encryption false --host 10.2.0.3:80",
        "service update site --name web --attributes= --intercept [fd00::1]:80",
        "router update gw --name gw-2 --attributes eu --disabled true",
        "router show gw-2",
        "router update gw-2 --name gw",
        "identity update alice --admin true --attributes x",
        "identity disable alice --for 5",
        "identity enable alice",
        "identity list --json name=\"alice\"",
        "audit --limit 5",
        "audit name=\"alice\" --json",
        "edge-router-policy create p --identity #staff --identity @alice --router @gw --all-of",
        "edge-router-policy update p --router #eu --semantic any-of",
        "edge-router-policy list",
        "edge-router-policy delete p",
        "service-edge-router-policy create p --service @web --router #all",
        "service-edge-router-policy update p --name q --service #all",
        "service-edge-router-policy show q",
        "service-edge-router-policy delete q",
        "terminator list",
        "policy delete web-dial",
        "service delete web",
        "router delete gw",
        "identity delete alice",
    ] {
        lab.run(line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }
}

const NETWORK: &str = "
version: 1
edgeRouters:
  - { name: gw, isTunnelerEnabled: true, roleAttributes: [eu] }
identities:
  - { name: alice, roleAttributes: [staff] }
configTypes:
  - { name: colour, schema: { type: object, required: [red] } }
configs:
  - { name: red, configTypeId: colour, data: { red: 1 } }
  - { name: web-host, configTypeId: host.v1, data: { protocol: tcp, address: 10.2.0.2, port: 8080 } }
services:
  - { name: web, configs: [web-host, red] }
servicePolicies:
  - { name: web-dial, type: Dial, semantic: AnyOf, identityRoles: ['#staff', '@gw'], serviceRoles: ['@web'] }
edgeRouterPolicies:
  - { name: eu, semantic: AllOf, identityRoles: ['@alice'], edgeRouterRoles: ['#eu'] }
";

#[tokio::test]
async fn configs_are_made_of_files_and_shared_by_services() {
    let lab = Lab::start().await;
    let (data, schema) = (lab.file("data.yaml"), lab.file("schema.json"));
    std::fs::write(&data, "{ protocol: tcp, address: 10.2.0.2, port: 80 }").unwrap();
    std::fs::write(&schema, r#"{ "type": "object", "required": ["port"] }"#).unwrap();
    for line in [
        format!("config-type create mine --schema {schema}"),
        "config-type list".into(),
        format!("config create c1 host.v1 --data {data}"),
        format!("config create c2 mine --data {data}"),
        "service create web --config c1".into(),
        "service update web --config c1 --config c2".into(),
        "service show web".into(),
        format!("config update c2 --name c3 --data {data}"),
        "config list".into(),
        "config-type update mine --name ours".into(),
        "service delete web".into(),
        "config delete c3".into(),
        "config-type delete ours".into(),
    ] {
        lab.run(&line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }
    std::fs::write(&data, "{ protocol: tcp, address: 10.2.0.2, port: eighty }").unwrap();
    let refused = lab.refused(&format!("config create c4 host.v1 --data {data}")).await;
    assert!(refused.contains("data/port"), "{refused}");
    let unknown = lab.refused(&format!("config create c4 host.v9 --data {data}")).await;
    assert!(unknown.contains("no \"host.v9\""), "{unknown}");
}

#[tokio::test]
async fn a_ca_of_others_is_registered_and_its_certificates_enroll() {
    let lab = Lab::start().await;
    // The controller's own root will do for somebody else's.
    let (cert, key) = (lab.file("pki/root.crt"), lab.file("pki/root.key"));
    let create = format!("ca create acme --cert {cert} --auto-enroll --ott-enroll --attribute a");
    lab.run(&create).await.unwrap();
    let refused = lab.refused(&format!("ca verify acme --cert {cert}")).await;
    assert!(refused.contains("verification token"), "{refused}");
    assert!(lab.refused("ca token acme").await.contains("verified"));
    let (bob, carol) = (lab.file("bob.jwt"), lab.file("carol.jwt"));
    for line in [
        format!("ca verify acme --key {key}"),
        "ca token acme".into(),
        "ca update acme --auth true --name-format [commonName]".into(),
        "ca list".into(),
        "ca show acme --json".into(),
        format!("identity create bob --ca acme --jwt-out {bob}"),
        format!("identity create carol --username carol --jwt-out {carol}"),
    ] {
        lab.run(&line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }
    let out = lab.file("bob.json");
    let refused = format!("{:#}", lab.enroll(&format!("{bob} --out {out}")).await.unwrap_err());
    assert!(refused.contains("--cert"), "{refused}");
    let password = lab.file("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    lab.enroll(&format!("{carol} --password-file {password}")).await.unwrap();
    lab.run("ca delete acme").await.unwrap();
}

#[tokio::test]
async fn an_administrator_logs_in_with_a_password_and_out_again() {
    let lab = Lab::start().await;
    let (password, session) = (lab.file("password"), lab.file("state/session.json"));
    std::fs::write(&password, "correct horse\n").unwrap();
    lab.run(&format!("identity set-password admin --password-file {password}")).await.unwrap();
    let ca = lab.file("pki/root.crt");
    let address = lab.controller.local_address();
    let end = format!("--password-file {password} --session-file {session}");
    let list = format!("service list --session-file {session}");
    let refused = format!("{:#}", lab.run_bare(&list).await.unwrap_err());
    assert!(refused.contains("nightgate login"), "{refused}");
    let refused = lab.run_bare(&format!("login {address} {end}")).await.unwrap_err();
    assert!(refused.to_string().contains("--ca"), "{refused:#}");
    lab.run_bare(&format!("login {address} --ca {ca} {end}")).await.unwrap();
    lab.run_bare(&list).await.unwrap();
    lab.run_bare(&list).await.unwrap();
    let mode = std::fs::metadata(&session).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    lab.run_bare(&format!("logout --session-file {session}")).await.unwrap();
    assert!(lab.run_bare(&list).await.is_err());
    lab.run_bare(&format!("login {address} {end}")).await.unwrap();
    lab.run("identity remove-password admin").await.unwrap();
    let refused = format!("{:#}", lab.run_bare(&list).await.unwrap_err());
    assert!(refused.contains("log in again"), "{refused}");
    std::fs::write(&password, "battery staple\n").unwrap();
    assert!(lab.run_bare(&format!("login {address} {end}")).await.is_err());
}

#[tokio::test]
async fn a_network_is_made_of_a_file_and_written_to_one() {
    let lab = Lab::start().await;
    let (file, tokens) = (lab.file("network.yaml"), lab.file("tokens"));
    std::fs::write(&file, NETWORK).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    let refused = lab.refused(&format!("apply -f {file}")).await;
    assert!(refused.contains("--jwt-dir"), "{refused}");
    lab.run(&format!("apply -f {file} --dry-run")).await.unwrap();
    assert!(lab.refused("identity show alice").await.contains("no \"alice\""));
    lab.run(&format!("apply -f {file} --jwt-dir {tokens}")).await.unwrap();
    assert_eq!(std::fs::read_dir(&tokens).unwrap().count(), 2);

    let client = ManagementClient::connect(Path::new(&lab.file("admin.json"))).await.unwrap();
    let made = network::live(&client).await.unwrap();
    let yaml = serde_saphyr::to_string(&made).unwrap();
    assert_eq!(serde_saphyr::from_str::<Network>(&yaml).unwrap(), made, "{yaml}");
    assert_eq!(made.service_policies[0].spec.identity_roles[1].to_string(), "@gw");
    lab.run("export").await.unwrap();
    lab.run("service delete web").await.unwrap();
    lab.run("identity update alice --attributes x").await.unwrap();
    std::fs::write(&file, yaml).unwrap();
    lab.run(&format!("apply -f {file} --prune --json")).await.unwrap();
    assert_eq!(network::live(&client).await.unwrap(), made);

    std::fs::write(&file, "version: 1\n").unwrap();
    lab.run(&format!("apply -f {file} --prune")).await.unwrap();
    let left = network::live(&client).await.unwrap();
    assert_eq!(left.identities.len(), 1, "an administrator remains");
    assert!(left.edge_routers.is_empty() && left.service_policies.is_empty());
    std::fs::write(&file, "version: 1\nservices: [{ name: web, cofnig: {} }]\n").unwrap();
    let refused = lab.refused(&format!("apply -f {file}")).await;
    assert!(refused.contains("cofnig") && refused.contains("network.yaml"), "{refused}");
    assert!(refused.contains("line 2"), "{refused}");
}

#[tokio::test]
async fn what_is_decided_about_terminators_is_taken_back_and_goes_through_files() {
    let lab = Lab::start().await;
    lab.run(&format!("identity create bob --jwt-out {}", lab.file("bob.jwt"))).await.unwrap();
    lab.run("service create web").await.unwrap();
    lab.run("terminator set web bob --precedence failed").await.unwrap();
    lab.run("terminator set web bob --cost 30").await.unwrap();
    lab.run("terminator set web bob --instance blue --cost 9").await.unwrap();
    let admin = lab.file("admin.json");
    let live = async || {
        let client = ManagementClient::connect(Path::new(&admin)).await.unwrap();
        network::live(&client).await.unwrap()
    };

    let network = live().await;

    let said = serde_json::to_value(&network.services[0].spec.terminators).unwrap();
    let expected = serde_json::json!([
        { "identity": "bob", "precedence": "failed", "cost": 30 },
        { "identity": "bob", "instance": "blue", "cost": 9 },
    ]);
    assert_eq!(said, expected);
    let file = lab.file("network.yaml");
    std::fs::write(&file, serde_saphyr::to_string(&network).unwrap()).unwrap();
    lab.run("terminator reset web bob").await.unwrap();
    assert_eq!(live().await.services[0].spec.terminators.len(), 1);
    lab.run(&format!("apply -f {file}")).await.unwrap();
    assert_eq!(live().await, network);
    let refused = lab.refused("terminator set web bob").await;
    assert!(refused.contains("--precedence") && refused.contains("--cost"), "{refused}");
    let refused = lab.refused("terminator set web nobody --cost 1").await;
    assert!(refused.contains("there is no \"nobody\""), "{refused}");
}

#[tokio::test]
async fn every_kind_of_entity_takes_tags() {
    let lab = Lab::start().await;
    std::fs::write(lab.file("schema.json"), "{}").unwrap();
    std::fs::write(lab.file("data.json"), "{}").unwrap();
    let (ca, schema, data) =
        (lab.file("pki/root.crt"), lab.file("schema.json"), lab.file("data.json"));
    let kinds = [
        ("identity", format!("--jwt-out {}", lab.file("x.jwt"))),
        ("router", format!("--jwt-out {}", lab.file("r.jwt"))),
        ("ca", format!("--cert {ca}")),
        ("auth-policy", String::new()),
        ("config-type", format!("--schema {schema}")),
        ("config", format!("x --data {data}")),
        ("service", String::new()),
        ("policy", "dial --identity #all --service #all".into()),
        ("edge-router-policy", "--identity #all --router #all".into()),
        ("service-edge-router-policy", "--service #all --router #all".into()),
    ];
    for (kind, rest) in &kinds {
        let name = if *kind == "router" { "gw" } else { "x" };
        let line =
            format!("{kind} create {name} {rest} --tag site=eu --tag floor=3 --tag zip=\"012\"");
        lab.run(&line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }
    let client = ManagementClient::connect(Path::new(&lab.file("admin.json"))).await.unwrap();
    let made = network::live(&client).await.unwrap();
    let text = serde_saphyr::to_string(&made).unwrap();
    assert_eq!(text.matches("site: eu").count(), kinds.len(), "{text}");
    assert_eq!(
        made.services[0].tags,
        serde_json::from_str(r#"{"site":"eu","floor":3,"zip":"012"}"#).unwrap()
    );

    let file = lab.file("network.yaml");
    std::fs::write(&file, &text).unwrap();
    for (kind, _) in &kinds {
        let name = if *kind == "router" { "gw" } else { "x" };
        lab.run(&format!("{kind} update {name} --tag site=us")).await.unwrap();
    }
    let changed = network::live(&client).await.unwrap();
    assert_eq!(changed.configs[0].tags.len(), 1);
    lab.run(&format!("apply -f {file}")).await.unwrap();
    assert_eq!(network::live(&client).await.unwrap(), made);
    lab.run("service update x --no-tags").await.unwrap();
    assert!(network::live(&client).await.unwrap().services[0].tags.is_empty());
    for bad in ["--tag site", "--tag =eu", "--tag site=eu --no-tags"] {
        let refused = lab.refused(&format!("service update x {bad}")).await;
        assert!(refused.contains("--tag"), "{refused}");
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_remedy() {
    let lab = Lab::start().await;
    lab.run("identity create alice").await.unwrap();
    assert!(lab.refused("identity create alice").await.contains("already identity \"alice\""));
    assert!(lab.refused("identity show bob").await.contains("no \"bob\" among the identities"));
    let unknown = lab.refused("policy create p dial --identity @bob --service #all").await;
    assert!(unknown.contains("no \"bob\""), "{unknown}");
    let role = lab.refused("policy create p dial --identity bob --service #all").await;
    assert!(role.contains("expected #all, #attribute or @name"), "{role}");
    assert!(lab.refused("identity update alice").await.contains("nothing to change"));
    let filter = lab.refused("identity list nmae=\"x\"").await;
    assert!(filter.contains("there is no field \"nmae\""), "{filter}");
    let filter = lab.refused("identity list name=").await;
    assert!(filter.contains("expected a quoted text"), "{filter}");
    let since = lab.refused("usage --since yesterday").await;
    assert!(since.contains("\"yesterday\"") && since.contains("10m"), "{since}");
    let token = lab.file("admin.json");
    let taken = lab.refused(&format!("identity create carol --jwt-out {token}")).await;
    assert!(taken.contains("exists"), "{taken}");
    assert!(
        lab.refused("identity show carol").await.contains("no \"carol\""),
        "nothing was created"
    );
}

#[tokio::test]
async fn a_stopped_controller_and_a_missing_file_are_named() {
    let Lab { dir, controller } = Lab::start().await;
    controller.stop().await;
    let error = ManagementClient::connect(&dir.path().join("admin.json")).await.err().unwrap();
    assert!(format!("{error:#}").contains("cannot be reached"), "{error:#}");
    let error = ManagementClient::connect(Path::new("/nonexistent.json")).await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent.json"), "{error:#}");
    assert!(error.to_string().contains("nightgate enroll"), "{error:#}");
}
