//! What the lab asks of the Kubernetes API: Node Ready, workloads, network probes.
