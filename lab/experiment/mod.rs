//! Experiments in Rust: a test forms a cluster, acts on it, waits and checks, without a scenario file.
//!
//! Experiments use the same nodes, conditions and checks as scenarios.
//!
//! ```ignore
//! let cluster = lab.form(spec).await?;
//! let worker = cluster.node("worker-1")?;
//! worker.cut_link()?;
//! worker.wait_until(MISSED, is_ready().not("it is Ready")).await?;
//! worker.restore_link()?;
//! cluster.check(PodNetwork { service: true, dns: true }).await?;
//! ```

mod lab;

pub use lab::{CheckFailed, ExperimentError, Lab, LabCluster};
