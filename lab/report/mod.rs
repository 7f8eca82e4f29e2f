//! Consumers of the event stream: live terminal view, JSON lines, summary, failure bundle.
//!
//! Each reads events and nothing else, so what was shown can be shown again from a recording.

mod bundle;
mod criteria;
mod json_lines;
mod live;
mod plain;
mod redact;
mod stopwatch;
mod summary;

pub use bundle::{Bundle, BundleError};
pub use criteria::Criterion;
pub use json_lines::{JsonLines, read_recording};
pub use live::{Display, display};
pub use redact::redact;
pub use stopwatch::{Figure, Measured, Reference, Stopwatch};
pub use summary::{CheckResult, NodeSummary, ScenarioSummary, Summary};
