//! Replication policies, encapsulations and sensors.
