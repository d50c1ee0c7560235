//! The router: TLS, edge listener, links and control channel around the fabric core.
