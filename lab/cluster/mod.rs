//! `ClusterSpec` -> `Plan` -> live `Cluster`: formation as concurrent steps.
