//! Who the routers on a circuit's way are.

use std::{
    io,
    time::{Duration, Instant},
};

use nightgate_wire::edge::{content, header};

use super::Stream;

/// How long a router may take to answer a trace; longer than it waits for the others.
const TRACE_TIME: Duration = Duration::from_secs(10);

/// A router on the way of a circuit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TracedHop {
    /// Its id. It is that router's own word.
    pub router: String,
    /// What it is on the way: `xgress/edge` at the ends, `forwarder` between them.
    pub kind: String,
    /// There are not that many hops: this is the last one.
    pub is_beyond: bool,
    /// Time until the answer.
    pub round_trip: Duration,
}

impl Stream {
    /// Asks the router so many hops away on the circuit's way, the one of [`Self::router`] being the first, who it is.
    /// Further away than the last one there is only the last one.
    ///
    /// # Errors
    /// The router does not answer, or the connection to it is lost.
    pub async fn trace(&self, hop: u32) -> io::Result<TracedHop> {
        let mut question = self.port.message(content::TRACE_ROUTE);
        question.headers.put_u32(header::TRACE_HOP_COUNT, hop.max(1));
        let asked = Instant::now();
        let answer = tokio::time::timeout(TRACE_TIME, self.port.request(question)).await;
        let answer = answer.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?;
        let answer = answer.map_err(|_closed| io::Error::from(io::ErrorKind::ConnectionReset))?;
        let round_trip = asked.elapsed();
        if let Some(reason) = answer.headers.text(header::TRACE_ERROR) {
            return Err(io::Error::other(reason.to_owned()));
        }
        let text = |key| answer.headers.text(key).unwrap_or_default().to_owned();
        let left = answer.headers.u32(header::TRACE_HOP_COUNT).unwrap_or_default();
        Ok(TracedHop {
            router: text(header::TRACE_HOP_ID),
            kind: text(header::TRACE_HOP_TYPE),
            is_beyond: left > 0,
            round_trip,
        })
    }
}
