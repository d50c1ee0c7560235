//! Identities, services and policies to authorizations.
