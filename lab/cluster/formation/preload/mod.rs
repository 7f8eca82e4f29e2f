//! Preloaded disks: a node pulls the images of a cluster once, and later nodes start from copies of its disk.
//!
//! [`Cluster::preload`] runs the node ([`lab_plan::cluster::DiskContents`] says why, and what is on the disk), and
//! [`PreloadStore`] keeps its disk. The node gets a config of a cluster of its own, whose secrets nothing else uses, and the
//! lab clears the partitions with the config and the identity before it keeps the disk.

mod store;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use lab_model::{events::Subject, files::comes_from_exhaustion, words::chain};
use lab_plan::cluster::{HELD_KUBELET, ImageOnDisk, NodePlan};
use lab_vm::machine::{DiskError, Machine, clear_partition};

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    steps::{LastSeen, retry_admitted},
};
use crate::machine_api::{ApiError, NodeClient};

pub use store::{PreloadError, PreloadStore, Preloaded, Preloading};

/// Partitions with what makes a node this node: its config and identity, and its settings.
const OF_THE_NODE: [&str; 2] = ["STATE", "META"];
/// Time limit of all pulls, on the reference host; five times what they took on a host half as fast.
const PULLS: Duration = Duration::from_secs(300);
/// Time limit of the shutdown, on the reference host.
const SHUTDOWN: Duration = Duration::from_secs(60);
/// The Talos console line after which a shutdown touches no file system any more. Talos v1.13 then still waits half a minute for
/// its controllers.
const UNMOUNTED: &str = "phase shutdown";
/// Number of images that the node pulls at once, one for each of its CPUs.
const AT_ONCE: usize = 2;

/// Why a node made no disk.
#[derive(Debug, thiserror::Error)]
pub enum NotPreloaded {
    /// The node did not boot, or its API did not answer.
    #[error(transparent)]
    Failure(#[from] Box<Failure>),
    /// A call failed for good.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The machine failed.
    #[error("{0}")]
    Cause(#[from] Cause),
    /// Something took too long.
    #[error("the node did not {what} within {} s{}", limit.as_secs(), .last_seen.as_ref().map(|seen| format!("; last seen: {seen}")).unwrap_or_default())]
    Deadline { what: &'static str, limit: Duration, last_seen: Option<String> },
    /// The disk has not the partitions of a node.
    #[error("{}", chain(.0))]
    Disk(#[from] DiskError),
}

impl NotPreloaded {
    /// Whether the host has no space or no file descriptors left, so that the failure says nothing about the image.
    pub fn is_of_the_host(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.is_of_the_host(),
            Self::Cause(cause) => cause.is_of_the_host(),
            error => comes_from_exhaustion(error),
        }
    }
}

impl Cluster {
    /// Boots the one node of this cluster and makes it pull `images` and power off. Returns the path of its disk, without
    /// the node's config and identity. The disk ends with the cluster; move it away before.
    ///
    /// # Errors
    /// See [`NotPreloaded`].
    pub async fn preload(
        self: &Arc<Self>,
        images: &BTreeMap<String, ImageOnDisk>,
    ) -> Result<PathBuf, NotPreloaded> {
        let node = self.plan.control_plane();
        let subject = Subject::Node(node.spec.name.clone());
        self.registry.hold([HELD_KUBELET.to_owned()]);
        self.boot_node(node, &subject).await.map_err(Box::new)?;
        self.configure(node, &subject).await.map_err(Box::new)?;
        let client = self.secure_api(node, &subject).await.map_err(Box::new)?;
        let machine = self.node_of(node).machine().map_err(Cause::from)?;
        tokio::select! {
            failure = machine.failure() => return Err(Cause::from(failure).into()),
            pulled = self.pull(node, client.clone(), images) => pulled?,
        }
        self.power_off(&machine, &client).await?;
        drop(machine);
        self.end_machines().await;
        let disk = self.disk_of(node);
        OF_THE_NODE.iter().try_for_each(|partition| clear_partition(&disk, partition))?;
        Ok(disk)
    }

    async fn pull(
        &self,
        node: &NodePlan,
        client: NodeClient,
        images: &BTreeMap<String, ImageOnDisk>,
    ) -> Result<(), NotPreloaded> {
        let limit = self.plan.budgets.on_this_host(PULLS);
        let (seen, pulled) = (LastSeen::default(), AtomicUsize::new(0));
        let pull = |(reference, image): (&String, &ImageOnDisk)| {
            let (client, seen, reference, namespace) =
                (client.clone(), seen.clone(), reference.clone(), image.namespace);
            let pulled = &pulled;
            async move {
                let call = async |client: NodeClient| client.pull_image(namespace, &reference, limit).await;
                retry_admitted(&seen, client, || self.connect(node), call).await?;
                let number = pulled.fetch_add(1, Ordering::Relaxed) + 1;
                self.note(node, format!("pulled {reference} ({number} of {})", images.len()));
                Ok::<_, ApiError>(())
            }
        };
        let pulls = stream::iter(images.iter().map(pull)).buffer_unordered(AT_ONCE);
        match tokio::time::timeout(limit, pulls.try_collect::<Vec<()>>()).await {
            Ok(pulled) => Ok(pulled.map(drop)?),
            Err(_) => Err(NotPreloaded::Deadline { what: "pull its images", limit, last_seen: seen.last() }),
        }
    }

    /// Powers the node off by its own API, so that everything is written to its disk.
    async fn power_off(&self, machine: &Machine, client: &NodeClient) -> Result<(), NotPreloaded> {
        let limit = self.plan.budgets.on_this_host(SHUTDOWN);
        let late = NotPreloaded::Deadline { what: "power itself off", limit, last_seen: None };
        machine.expect_power_off();
        client.shutdown(self.plan.budgets.call).await?;
        let off = async {
            tokio::select! {
                ended = machine.ended() => ended,
                line = machine.wait_console(UNMOUNTED) => line.is_ok(),
            }
        };
        match tokio::time::timeout(limit, off).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(late),
        }
    }
}
