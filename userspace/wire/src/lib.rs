//! Wire formats: the edge channel that OpenZiti clients speak, and the links between routers.
