//! The whole product in network namespaces.
