//! One run on this host: its directory, its event stream and displays, what it found of the host,
//! and the clusters it starts.
//!
//! The CLI and the tests both work through a [`Session`], so what is tested is what is run.

mod bundle;
mod figures;
mod image_figures;
mod open;
mod pause;
mod planning;
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
pub use warm::Start;
pub use warm_figures::StartFigures;
