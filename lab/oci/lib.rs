//! OCI images: sources, stores, mirrors, the lab registry, what container images hold, and preflight checks of node
//! images before boot.
//!
//! [`images`] resolves references, layouts and archives to files. [`registry`] serves images to nodes.
//! [`containers`] reads the programs in container images. [`preflight`] compares the node images of a cluster. This crate depends on `lab-model` and `lab-image`.
//!
//! Start reading at [`images::ImageStore`].

pub mod containers;
pub mod images;
pub mod preflight;
pub mod registry;
