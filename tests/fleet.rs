//! Fleets in Kubernetes: the manifests as kustomize renders them, what a pod of the Indexed Job runs, and, as a long
//! test, what the API server of a cluster says to them.

#[path = "fleet/accepted.rs"]
mod accepted;
#[path = "fleet/manifests.rs"]
mod manifests;
#[path = "fleet/pod.rs"]
mod pod;
#[path = "fleet/pods.rs"]
mod pods;
#[path = "fleet/rendered.rs"]
mod rendered;
mod support;

use std::path::Path;

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
