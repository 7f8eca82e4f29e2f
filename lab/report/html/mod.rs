//! The page: one file that needs nothing else.
//!
//! Everything that comes from guests is escaped by the templates; drawings are inline, styles and
//! the script are part of the page, and its content security policy lets it load nothing.

mod chart;
mod events;
mod network;
mod page;
mod resources;
mod scenario;
mod steps;
mod topology;
