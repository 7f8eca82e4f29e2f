//! The release file: the parts of a release, and what must hold. The format reference is `docs/release-gate.md`.
//!
//! The reader works like the one of scenario files: strict parsing into structs that mirror the file ([`raw`]), then
//! lowering to plain data. Both report errors with line, column and the closest valid word.

mod draft;
mod lower;
mod raw;
mod spec;
mod tag;

pub use draft::{Drafted, draft};
pub use spec::{
    Acceptance, Board, ConfigFile, Form, ListedFile, ListedSource, NodePart, NodeVariant, ProvenanceRule,
    Release, RoleRule,
};
pub use tag::ReleaseTag;
