//! Clusters side by side, as many as the host has cores for.

use std::{sync::LazyLock, thread::available_parallelism, time::Duration};

use anyhow::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The host's cores. A cluster takes one for each of its nodes while it lives: with more at work,
/// all would only be late.
static CORES: LazyLock<(Semaphore, usize)> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    (Semaphore::new(cores), cores)
});

/// Waits until there are cores for so many nodes.
pub async fn turn(nodes: usize) -> Result<SemaphorePermit<'static>> {
    let (free, all) = &*CORES;
    Ok(free.acquire_many(u32::try_from(nodes.min(*all))?).await?)
}

/// How long a test waits for memory that other labs on this host hold.
pub const MEMORY_PATIENCE: Duration = Duration::from_secs(900);
