//! The OCI registry that serves workload images to the nodes.
