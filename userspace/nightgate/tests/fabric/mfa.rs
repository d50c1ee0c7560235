//! A second factor, by the command line alone.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use totp_rs::{Algorithm, Builder, Secret};

use crate::overlay::Overlay;

#[test]
fn a_tunneler_waits_for_a_code_that_is_given_from_the_side() {
    let overlay = Overlay::start();
    let router = overlay.enroll_router("hub");
    let _hub = overlay.start_router(&router, "");
    let (jwt, file) = (overlay.path("laptop.jwt"), overlay.path("laptop.json"));
    let (jwt, file) = (jwt.to_str().unwrap(), file.to_str().unwrap());
    fs::write(jwt, overlay.run(&["identity", "create", "laptop"])).unwrap();
    overlay.run(&["enroll", jwt, "--out", file]);

    let made = overlay.run(&["mfa", "enroll", "--identity", file, "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let secret = made["provisioningUrl"].as_str().unwrap().split("secret=").nth(1).unwrap();
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(Secret::try_from_base32(secret.split('&').next().unwrap()).unwrap())
        .with_account_name("laptop")
        .build()
        .unwrap();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    overlay.run(&["mfa", "verify", "--identity", file, &totp.generate(now() - 30).to_string()]);
    let status = overlay.run(&["mfa", "status", "--identity", file, "--json"]);
    assert!(status.contains("true"), "{status}");
    let listed = overlay.ask("identity list").unwrap();
    let laptop = listed.as_array().unwrap().iter().find(|it| it["name"] == "laptop").unwrap();
    assert_eq!(laptop["isMfaEnabled"], true);

    let _tunnel = overlay.start_hosting(file);
    let said = |text: &'static str| {
        move |overlay: &Overlay| {
            fs::read_to_string(overlay.path("tunnel.log")).is_ok_and(|log| log.contains(text))
        }
    };
    overlay.wait("the tunneler asks for a code", said("nightgate mfa authenticate --identity"));
    let give = |code: &str| {
        let arguments = ["mfa", "authenticate", "--identity", file, code];
        overlay.nightgate().args(arguments).output().unwrap()
    };
    assert!(!give("000000").status.success());
    let given = give(&totp.generate(now()).to_string());
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    overlay.wait("the tunneler goes on", said("no second factor is due"));
}
