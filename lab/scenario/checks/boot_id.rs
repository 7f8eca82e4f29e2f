//! The kernel's id of the current boot, read from the node.

use lab_cluster::formation::FormedNode;

use super::{CheckError, QUESTION};

/// The kernel's id of the current boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) async fn boot_id(node: FormedNode<'_>) -> Result<String, CheckError> {
    let id = node.connect().await?.read_file(BOOT_ID, QUESTION).await?;
    Ok(id.trim().to_owned())
}
