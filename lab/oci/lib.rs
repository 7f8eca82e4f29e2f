//! OCI images: sources, stores, mirrors, the lab's registry, and what is wrong with a pair of node
//! images before anything boots.
//!
//! [`images`] turns references, layouts and archives into files. [`registry`] serves images to nodes.
//! [`preflight`] compares the node images of a cluster. This crate uses `lab-model` and `lab-image`.
//!
//! Start reading at [`images::ImageStore`].

pub mod images;
pub mod preflight;
pub mod registry;
