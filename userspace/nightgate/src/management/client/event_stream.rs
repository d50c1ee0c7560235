//! Events of the controller, line by line, as they come.

use anyhow::Context as _;
use reqwest::Response;
use serde::Serialize;

use super::ManagementClient;

/// Lines of events, as they come.
pub(in crate::management) struct EventStream {
    response: Response,
    buffer: Vec<u8>,
}

impl EventStream {
    /// Differs after each start of the controller.
    pub(in crate::management) fn instance(&self) -> &str {
        let header = self.response.headers().get("ziti-instance-id");
        header.and_then(|instance| instance.to_str().ok()).unwrap_or_default()
    }

    /// The next line that is not empty; none at the end.
    pub(in crate::management) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8(line).context("the controller sent no text")?;
                if !line.trim().is_empty() {
                    return Ok(Some(line.trim_end().to_owned()));
                }
            }
            match self.response.chunk().await.context("read events of the controller")? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

impl ManagementClient {
    /// Asks for events, as they come.
    pub(in crate::management) async fn stream(
        &self,
        query: &impl Serialize,
    ) -> anyhow::Result<EventStream> {
        let response = self.response(self.http.get(self.url("events")).query(query)).await?;
        Ok(EventStream { response, buffer: Vec::new() })
    }
}
