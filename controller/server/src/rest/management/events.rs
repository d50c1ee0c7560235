//! `GET /events`: what happens, as JSON lines. Nightgate's own: OpenZiti's is a web socket of the fabric API.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use nightgate_model::{event, id::ApiSessionId};
use nightgate_store::SecondFactor;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    clock,
    core::{Core, Memory},
    events::{Line, Reader},
    rest::{
        Failure, answer,
        api::{Access, Api},
        caller::{Admin, Caller},
        query::Parameters,
    },
};

/// Media type of JSON lines.
const JSON_LINES: &str = "application/x-ndjson";

/// Readers that follow at one time.
const MAX_READERS: usize = 32;

/// Time between two looks at whether a reader may still read; it gets an empty line each time.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Which events are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Words of `type`, separated by commas; all if there are none.
    #[serde(default, rename = "type")]
    types: String,
    /// Only what comes after the event of this number.
    after: Option<u64>,
    /// The last so many, if `after` does not say where to begin.
    #[serde(default = "usual")]
    last: usize,
    /// Go on with what happens from now on.
    #[serde(default)]
    follow: bool,
}

fn usual() -> usize {
    100
}

/// The routes.
pub(super) fn api() -> Api {
    let readers = Arc::new(Semaphore::new(MAX_READERS));
    let list = move |core, admin, wanted| list(core, admin, wanted, Arc::clone(&readers));
    Api::new(Access::Administrator)
        .get("/events", "What happens, as JSON lines (application/x-ndjson)", list)
        .get("/events/schema", "The JSON schema of each line", schema)
}

async fn schema(_: Admin) -> Response {
    answer::ok(event::schema())
}

/// What one reader has got so far.
struct Following {
    core: Arc<Core>,
    session: ApiSessionId,
    reader: Reader,
    kinds: Vec<String>,
    _place: OwnedSemaphorePermit,
}

async fn list(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Parameters(wanted): Parameters<Wanted>,
    readers: Arc<Semaphore>,
) -> Result<Response, Failure> {
    let kinds = kinds(&wanted.types)?;
    let place = readers.try_acquire_owned().map_err(|_full| Failure::too_many_readers())?;
    let mut reader = match wanted.after {
        Some(after) => core.events.read_after(after),
        None => core.events.read_last(wanted.last, |line| admits(&kinds, line)),
    };
    let body = if wanted.follow {
        let Caller { session, .. } = caller;
        let following = Following { core, session: session.id, reader, kinds, _place: place };
        Body::from_stream(stream::unfold(following, |mut following| async {
            let piece = following.next().await?;
            Some((Ok::<_, Infallible>(piece), following))
        }))
    } else {
        Body::from(so_far(&mut reader, &kinds))
    };
    Ok(([(CONTENT_TYPE, JSON_LINES)], body).into_response())
}

fn kinds(types: &str) -> Result<Vec<String>, Failure> {
    let words = types.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = event::Occurrence::TYPES;
    words
        .map(|word| {
            if known.contains(&word) {
                return Ok(word.to_owned());
            }
            let message = format!("type: there is no {word:?}, only {}", known.join(", "));
            Err(Failure::bad_request("INVALID_FILTER", message))
        })
        .collect()
}

/// A gap is for everybody: nobody knows what was in it.
fn admits(kinds: &[String], line: &Line) -> bool {
    kinds.is_empty() || line.kind == "gap" || kinds.iter().any(|kind| kind == line.kind)
}

/// All events that there are now.
fn so_far(reader: &mut Reader, kinds: &[String]) -> String {
    let mut text = String::new();
    loop {
        let batch = reader.take();
        if batch.is_empty() {
            return text;
        }
        let wanted = batch.iter().filter(|line| admits(kinds, line));
        wanted.for_each(|line| text.push_str(&line.text));
    }
}

impl Following {
    /// The next lines; `None` when the reader may not read any more.
    async fn next(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        while text.is_empty() {
            tokio::select! {
                batch = self.reader.next() => {
                    let wanted = batch.iter().filter(|line| admits(&self.kinds, line));
                    wanted.for_each(|line| text.push_str(&line.text));
                }
                () = self.core.events.closed() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => text.push('\n'),
            }
            if !self.core.read(|memory| may_read(memory, &self.session)) {
                return None;
            }
        }
        Some(text.into())
    }
}

/// Whether the session has not ended since, nor its identity's right.
fn may_read(memory: &Memory, session: &ApiSessionId) -> bool {
    memory.api_sessions.get(session).is_some_and(|live| {
        let identity = memory.enabled_identity(&live.session.identity);
        live.session.expires_at > clock::timestamp()
            && live.session.second_factor != SecondFactor::Due
            && identity.is_some_and(|identity| identity.is_admin)
    })
}
