//! The kernel's id of the present boot, from the node itself.

use lab_cluster::formation::FormedNode;

use super::{CheckError, QUESTION};

/// The kernel's id of the present boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the boot that the node is in now.
pub(super) async fn boot_id(node: FormedNode<'_>) -> Result<String, CheckError> {
    let id = node.connect().await?.read_file(BOOT_ID, QUESTION).await?;
    Ok(id.trim().to_owned())
}
