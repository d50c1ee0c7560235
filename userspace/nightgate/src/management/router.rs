//! `nightgate router create | list | show | update | delete`

use nightgate_model::{entity::EdgeRouter, spec::EdgeRouterSpec};
use serde::Serialize;

use super::{
    attribute::AttributeList,
    entity::{Managed, Names, Shown},
    joined,
    token::TokenArgs,
    yes_or_no,
};

/// `nightgate router create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateRouter {
    /// Unique name
    name: String,
    /// Gets an identity of its own, so that it may dial and host: for gateways
    #[arg(long)]
    tunneler: bool,
    /// Attribute of the router, and of its identity; selected in policies by #attribute; may be
    /// repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    /// What a path through it costs, 0 to 65535 (a millisecond of a link costs 1); 10 counts where it is less
    #[arg(long, default_value_t = 0)]
    cost: u16,
    /// Circuits begin and end at it, and none passes through
    #[arg(long)]
    no_traversal: bool,
    #[command(flatten)]
    token: TokenArgs,
}

/// `nightgate router update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateRouter {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// All its attributes from now on, separated by commas; '' for none. Those of its identity are
    /// changed by `nightgate identity update`
    #[arg(long, value_name = "A,B")]
    #[serde(rename = "roleAttributes")]
    attributes: Option<AttributeList>,
    /// It carries nothing while true
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
    /// What a path through it costs from now on
    #[arg(long)]
    cost: Option<u16>,
    /// No circuit passes through it while true; those that do find other paths
    #[arg(long, value_name = "BOOL")]
    no_traversal: Option<bool>,
}

impl Managed for EdgeRouter {
    type Create = CreateRouter;
    type Update = UpdateRouter;
    const COLUMNS: &'static [&'static str] = &["attributes", "state", "address", "tunneler"];
    const ENROLL: &'static str = "nightgate router enroll";

    fn wanted(args: CreateRouter) -> anyhow::Result<EdgeRouterSpec> {
        Ok(EdgeRouterSpec {
            name: args.name,
            is_tunneler_enabled: args.tunneler,
            disabled: false,
            role_attributes: args.attributes.into_iter().collect(),
            cost: args.cost,
            no_traversal: args.no_traversal,
        })
    }

    fn token(args: &CreateRouter) -> Option<&TokenArgs> {
        Some(&args.token)
    }

    fn cells(shown: &Shown<Self>, _names: &Names) -> Vec<String> {
        let router = &shown.entity;
        vec![
            joined(&router.role_attributes),
            state(shown).into(),
            router.address.clone().unwrap_or_else(|| "-".into()),
            yes_or_no(router.is_tunneler_enabled).into(),
        ]
    }
}

fn state(shown: &Shown<EdgeRouter>) -> &'static str {
    let is_online = shown.more["isOnline"] == true;
    match (shown.entity.disabled, &shown.entity.fingerprint, is_online) {
        (true, _, _) => "disabled",
        (false, None, _) => "not enrolled",
        (false, Some(_), false) => "offline",
        (false, Some(_), true) => "online",
    }
}
