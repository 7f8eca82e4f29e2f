//! What a control plane does before its API server answers: pulled images, runs of containers, and the states of static
//! pods.

use std::{collections::BTreeMap, time::Duration};

use lab_plan::cluster::NodePlan;

use super::{
    cluster::Cluster,
    container_runs::{STATIC_PODS, containers},
    steps::LastSeen,
};
use crate::{kubernetes::static_pod_line, machine_api::NodeClient};

/// Interval between two looks. Neither images nor static pods need a closer one.
const LOOK_AGAIN: Duration = Duration::from_secs(4);
/// Time limit for each request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of things of a node that are remembered.
const THINGS: usize = 1000;

/// What was told of a node. Each change is told once.
#[derive(Default)]
struct Told(BTreeMap<String, String>);

impl Told {
    /// Returns the lines that are new or changed.
    fn news(&mut self, lines: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
        let mut news = Vec::new();
        for (thing, line) in lines {
            let room = self.0.len() < THINGS || self.0.contains_key(&thing);
            if room && self.0.insert(thing, line.clone()).as_ref() != Some(&line) {
                news.push(line);
            }
        }
        news
    }
}

impl Cluster {
    /// Notes what the control plane does until its API server answers. Never resolves.
    pub(super) async fn narrate(&self, node: &NodePlan, client: &NodeClient, seen: &LastSeen) {
        let mut told = Told::default();
        if self.preloaded_for(node).is_some() {
            // What is there at first was not pulled by this node.
            told.news(images(client).await);
        }
        loop {
            let lines = images(client).await.into_iter().chain(static_pods(client).await);
            for line in told.news(lines) {
                seen.progress(&line);
                self.note(node, line);
            }
            for container in containers(client.system_pod_runs(PATIENCE).await.unwrap_or_default()) {
                for line in told.news([(container.name(), container.line(None))]) {
                    // A container that starts again is no progress.
                    if container.is_first() {
                        seen.progress(&line);
                        self.note(node, line);
                    } else {
                        let last = client.last_message(container.telling(), PATIENCE).await;
                        self.note(node, container.line(last.as_deref()));
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The pulled images of a node. A node that does not answer tells nothing.
async fn images(client: &NodeClient) -> Vec<(String, String)> {
    let images = client.images(PATIENCE).await.unwrap_or_default();
    let tagged = images.into_iter().filter(|image| is_tagged(image));
    tagged.map(|image| (image.clone(), format!("pulled {image}"))).collect()
}

/// The states of the static pods of a node. A node has none until its API server authorizes the question to kubelet.
async fn static_pods(client: &NodeClient) -> Vec<(String, String)> {
    let pods = client.list("k8s", STATIC_PODS, PATIENCE).await.unwrap_or_default();
    pods.into_iter()
        .filter_map(|pod| Some((pod.id.clone(), static_pod_line(&pod.id, pod.spec).ok()?)))
        .collect()
}

/// Whether an image name has a tag. containerd also lists each image by its digests.
fn is_tagged(image: &str) -> bool {
    !image.starts_with("sha256:") && !image.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let mut told = Told::default();
        let look = |line: &str| [("kube-apiserver".to_owned(), line.to_owned())];
        assert_eq!(told.news(look("is starting")), ["is starting"]);
        assert_eq!(told.news(look("is starting")), [""; 0]);
        assert_eq!(told.news(look("is ready")), ["is ready"]);
    }

    #[test]
    fn digests_are_no_names_of_images() {
        assert!(is_tagged("registry.k8s.io/pause:3.10.1"));
        assert!(!is_tagged("registry.k8s.io/pause@sha256:ab") && !is_tagged("sha256:ab"));
    }
}
