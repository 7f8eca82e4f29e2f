//! The HTML page: one self-contained file.
//!
//! The templates escape all text from guests. Drawings are inline, styles and the script are part of
//! the page, and its content security policy blocks all external resources.

mod chart;
mod events;
mod network;
mod page;
mod resources;
mod scenario;
mod steps;
mod topology;
