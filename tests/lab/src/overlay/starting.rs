//! The controller, the router and the gateways begin.

use anyhow::Result;

use super::{
    configuration::{self, GATEWAY_A, GATEWAY_B, ROUTER, SDK_IDENTITY},
    deployment::Deployment,
    topology::Family,
};

/// First start makes the PKI.
pub(super) fn start_controller(deployment: &mut Deployment) -> Result<String> {
    deployment.start_controller()?;
    Ok(format!("listening on {}", configuration::controller(deployment.family)))
}

/// One-time tokens become certificates.
pub(super) fn enroll(deployment: &mut Deployment) -> Result<String> {
    let advertise = format!("--advertise {}", configuration::router_address(deployment.family));
    let endpoints = [
        (ROUTER, "router create", "", "router enroll", advertise.as_str()),
        (GATEWAY_A, "router create", "--tunneler --attribute clients", "router enroll", ""),
        (
            GATEWAY_B,
            "router create",
            "--tunneler --attribute hosts --attribute quarantine",
            "router enroll",
            "",
        ),
        (SDK_IDENTITY, "identity create", "", "enroll", ""),
    ];
    for (name, create, options, enroll, place) in endpoints {
        enroll_one(deployment, name, (create, options), (enroll, place))?;
    }
    Ok(format!("{} enrolled", endpoints.map(|(name, ..)| name).join(", ")))
}

/// Makes a router or an identity, and redeems its token.
pub(super) fn enroll_one(
    deployment: &Deployment,
    name: &str,
    (create, options): (&str, &str),
    (enroll, place): (&str, &str),
) -> Result<()> {
    let token = deployment.file(&format!("{name}.jwt"));
    let identity = deployment.file(&format!("{name}.json"));
    let (token, identity) = (token.display(), identity.display());
    deployment.operator(&format!("{create} {name} {options} --jwt-out {token}"))?;
    deployment.operator(&format!("{enroll} {token} --out {identity} {place}")).map(drop)
}

/// They dial out.
pub(super) fn start_routers(deployment: &mut Deployment) -> Result<String> {
    let routers = [
        (ROUTER, "router", configuration::router as fn(&str, Family) -> String),
        (GATEWAY_A, "gateway", configuration::gateway_a),
        (GATEWAY_B, "gateway", configuration::gateway_b),
    ];
    for (name, role, configuration) in routers {
        start_router(deployment, name, role, configuration)?;
    }
    Ok("all three answer on their operator's sockets".to_owned())
}

/// Writes the configuration of a router or gateway, and starts it.
pub(super) fn start_router(
    deployment: &mut Deployment,
    name: &str,
    role: &str,
    configuration: fn(&str, Family) -> String,
) -> Result<()> {
    let socket = deployment.socket(name);
    let text = configuration(&socket.display().to_string(), deployment.family);
    deployment.write(&format!("{name}.yaml"), &text)?;
    deployment.start_router(role, name)
}
