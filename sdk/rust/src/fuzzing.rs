//! What the SDK reads of others, as plain functions: for the fuzz targets in tests/fuzz alone.

use nightgate_model::api::Envelope;

use crate::{bundle, controller, second_factor, service::Service, token};

/// Reads bytes as every kind of answer of a controller, and as an enrollment token.
pub fn read_answer(bytes: &[u8]) {
    if let Ok(certificates) = bundle::read(bytes) {
        assert!(!certificates.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(token::enrollment_method(text));
    }
    if let Ok(listed) = serde_json::from_slice::<Envelope<Vec<Service>>>(bytes) {
        // Whatever the documents say, it is decided whether our own method is demanded.
        for service in &listed.data {
            nightgate_model::configs::EndToEndV1::method_of(&service.config);
        }
    }
    controller::read_sessions(bytes);
    second_factor::read_answers(bytes);
}
