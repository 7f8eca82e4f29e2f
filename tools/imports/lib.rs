//! The imports between the crates, folders and files of this project.
//!
//! [`Sources`] holds the text of the workspace, [`Workspace`] resolves each `use` and each path in it to the
//! file that defines what is named, and [`violations`] compares the result with the layers. Test code
//! (`#[cfg(test)]`) and `build.rs` are left out. The crate uses no other crate of the workspace.
//!
//! Start reading at [`Workspace::of`].

mod draw;
mod parse;
mod resolve;
mod rules;
mod sources;
mod workspace;

pub use draw::{files, mermaid, text};
pub use rules::{LAYERS, Violation, violations};
pub use sources::{ReadError, Sources};
pub use workspace::{Import, Workspace};
