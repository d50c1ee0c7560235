//! What operators are told who ask at the admin socket.

use nightgate_gateway::admin::{Query, Request, Topic};
use nightgate_telemetry::Metrics;
use serde::Serialize;
use serde_json::Value;

use crate::mirror::Mirroring;

/// What operators are told who ask for something else.
const ANSWERED: &str =
    "this is a tunneler, which has its status, flows, copies, sensors and metrics alone";

/// What is told of copies and sensors where there are none.
const NOTHING: Value = Value::Array(Vec::new());

/// Whether this is what an operator asks for.
pub(crate) fn asks(query: &Query, topic: Topic) -> bool {
    query.request == Request::Show(topic)
}

/// The answer that shows something.
pub(crate) fn shown(what: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(what).map_err(|error| error.to_string())
}

/// Answers an operator with what is shown, or else with the copies, the sensors or the metrics.
pub(crate) async fn tell(
    query: Query,
    shown: Option<Result<Value, String>>,
    (mirroring, metrics): (Option<&Mirroring>, &Metrics),
) {
    let answer = if let Some(shown) = shown {
        shown
    } else if asks(&query, Topic::Mirror) {
        mirroring.map_or(Ok(NOTHING), Mirroring::copies)
    } else if asks(&query, Topic::Sensors) {
        match mirroring {
            Some(mirroring) => mirroring.sensors().await,
            None => Ok(NOTHING),
        }
    } else if asks(&query, Topic::Metrics) {
        render(mirroring, metrics).await.map(Into::into)
    } else {
        Err(ANSWERED.into())
    };
    query.answer(answer);
}

async fn render(mirroring: Option<&Mirroring>, metrics: &Metrics) -> Result<String, String> {
    let mut text = metrics.render().map_err(|error| error.to_string())?;
    if let Some(mirroring) = mirroring {
        text.push_str(&mirroring.metrics().await?);
    }
    Ok(text)
}
