//! `nightgate fw learn`: accepts and records for a while what no rule matches, and proposes rules for it.

use nightgate_gateway::admin::{self, Learn, Request};
use serde_json::Value;

use crate::{change::seconds, observe::ObserveArgs};

/// `nightgate fw learn`
#[derive(Clone, Debug, clap::Args)]
#[group(id = "what", multiple = false)]
pub(crate) struct LearnArgs {
    /// Accept and record what no rule matches, for this time, such as 10m or 1h
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, group = "what")]
    time: Option<u32>,
    /// Learn between these zones alone [default: all zones and local]
    #[arg(long = "zone", value_name = "ZONE", requires = "time")]
    zones: Vec<String>,
    /// End before the time is over
    #[arg(long, group = "what")]
    stop: bool,
    /// Print a configuration with rules that accept exactly what has been recorded
    #[arg(long, group = "what")]
    propose: bool,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// Learns, stops, proposes, or says how far it is.
pub(crate) async fn learn(args: &LearnArgs) -> anyhow::Result<()> {
    let request = match args.time {
        Some(seconds) => Request::Learn(Learn { seconds, zones: args.zones.clone() }),
        None if args.stop => Request::StopLearning,
        None => Request::Learned,
    };
    let answer = admin::ask(&args.observe.socket, request).await?;
    args.observe.output.print(&answer, |answer| {
        if args.propose {
            answer["file"].as_str().unwrap_or_default().to_owned()
        } else {
            describe(answer)
        }
    })
}

fn describe(answer: &Value) -> String {
    let number = |key: &str| answer[key].as_u64().unwrap_or_default();
    let seen = format!(
        "{} flows recorded that no rule matched; `nightgate fw learn --propose` prints {} rules for them",
        number("flows"),
        number("rules")
    );
    match answer["seconds_left"].as_u64() {
        Some(seconds) => format!(
            "WARNING: for {seconds} s everything that no rule matches is accepted; `nightgate fw learn --stop` ends \
             it\n{seen}"
        ),
        None => format!("the gateway does not learn: what no rule matches is refused\n{seen}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_warns_while_everything_is_accepted() {
        let text = describe(&serde_json::json!({"seconds_left": 60, "flows": 3, "rules": 1}));
        assert!(text.starts_with("WARNING: for 60 s") && text.contains("3 flows"), "{text}");
        let text = describe(&serde_json::json!({"seconds_left": null, "flows": 3, "rules": 1}));
        assert!(text.contains("is refused"), "{text}");
    }
}
