//! A run on this host: its directory, its event stream and displays, the properties of the host, and the
//! clusters that the run starts.
//!
//! The CLI and the tests both use [`Session`], so the tests cover the code that users run.

mod bundle;
mod figures;
mod image_figures;
mod open;
mod pause;
mod planning;
mod preload;
mod preview;
mod publish;
mod speed;
mod start;
mod warm;
mod warm_figures;

pub use bundle::write_bundle;
pub use figures::FormationFigures;
pub use image_figures::{ImageFigures, ImageFiguresError};
pub use open::{Session, SessionError, SessionOptions};
pub use pause::{OnFailure, Paused};
pub use preview::Preview;
pub use start::{ClusterRequest, OVERHEAD_PER_NODE_MIB, RunningCluster, StartError};
pub use warm_figures::StartFigures;
