//! Fuzz targets for every parser of outside bytes, and their corpus.
