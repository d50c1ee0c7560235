//! REST for clients and operators, and the routers' control channel.
