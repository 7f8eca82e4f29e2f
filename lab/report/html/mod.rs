//! The HTML pages, of a run and of the history: each is one self-contained file.
//!
//! The templates escape all text from guests. Drawings are inline, styles and the script are part of
//! the page, and its content security policy blocks all external resources.

mod chart;
mod document;
mod events;
mod history;
mod network;
mod page;
mod resources;
mod scenario;
mod steps;
mod topology;
mod trend;

pub use history::ReportLinks;
