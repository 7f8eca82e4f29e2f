//! Consumers of the event stream: live terminal view, recording, failure bundle, and the reports.
//!
//! Each consumer reads only events, so a recording can reproduce the output. [`Recording`] ->
//! [`Report`] -> text, Markdown, JUnit XML, trace, HTML: all formats use one [`Report`] and therefore
//! contain the same verdict.

mod badge;
mod beside;
mod bundle;
mod criteria;
mod files;
mod flaky;
mod history;
mod history_text;
mod html;
mod json_lines;
mod junit;
mod laps;
mod live;
mod markdown;
pub mod merge;
mod plain;
mod planned;
mod recording;
mod report;
mod results;
mod role_guide;
mod screen;
mod signature_file;
mod signatures;
#[cfg(test)]
mod sinks_tests;
mod stopwatch;
mod summary;
mod timeline;
mod trace;
mod verdict;

pub use badge::Badge;
pub use bundle::{Bundle, BundleError};
pub use criteria::Criterion;
pub use files::{HTML, JUNIT, MARKDOWN, TRACE, leave_reports};
pub use history::{Ended, HISTORY, History, PastRun};
pub use html::ReportLinks;
pub use json_lines::{JsonLines, read_recording};
pub use live::{Display, display};
pub use recording::{RECORDING, Recording, RecordingError};
pub use report::Report;
pub use signature_file::SignatureError;
pub use signatures::{Examples, KnownFailure, SIGNATURES_FILE, Signature, SignatureSource, Signatures};
pub use stopwatch::{Figure, Measured, Reference, Stopwatch};
pub use summary::{CheckResult, NodeSummary, ScenarioSummary, Summary};
pub use verdict::{InvalidVerdict, Verdict};
