//! A look at what a client says first, for the records of flows: once for each connection, at bytes that are in hand anyway.

use nightgate_mirror::flow::{HelloReader, Look, TlsClient};

/// Looks at the bytes that each side of a connection sends first; at none without something to tell.
#[derive(Debug, Default)]
pub struct Sights {
    /// What comes from the connection, if the client is there.
    pub connection: Sight,
    /// What comes from the circuit, if the client is beyond it.
    pub circuit: Sight,
}

/// Looks at the bytes of one side until they have said what they are.
#[derive(Default)]
pub struct Sight(Option<Begun>);

struct Begun {
    reader: HelloReader,
    tell: Box<dyn FnOnce(TlsClient) + Send>,
}

impl Sight {
    /// Looks for what a TLS client says first, and tells it.
    pub fn new(tell: impl FnOnce(TlsClient) + Send + 'static) -> Self {
        Self(Some(Begun { reader: HelloReader::default(), tell: Box::new(tell) }))
    }

    /// Looks at what comes next.
    pub fn look(&mut self, bytes: &[u8]) {
        let Some(begun) = &mut self.0 else { return };
        match begun.reader.look(bytes) {
            Look::Undecided => {}
            Look::Other => self.0 = None,
            Look::Hello(client) => {
                if let Some(begun) = self.0.take() {
                    (begun.tell)(client);
                }
            }
        }
    }
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sight").field(&self.0.is_some()).finish()
    }
}
