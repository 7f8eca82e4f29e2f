//! Node images in OCI formats: registry references, image layouts, layout archives, and `docker save`
//! archives. The lab reads the layers directly and does not run the image.
//!
//! Formats: OCI image specification v1.1 (manifest, index, layer, image layout), OCI distribution
//! specification v1.1 (`exchange`), and Docker's image specification v1.2
//! (`manifest.json` of an archive).
//!
//! [`Source`] is the user input. [`ImageStore::resolve`] resolves it to files on disk.

mod cache;
mod content;
mod error;
mod exchange;
mod files;
mod image;
mod layout;
mod lock;
mod mirror;
mod names;
mod pull_through;
mod registry;
mod remote;
mod store;
mod tar_files;

pub use oci_client::Reference;

pub use error::OciError;
pub use image::{Command, Image};
pub use layout::{
    CONFIG_TYPE, Descriptor, INDEX_TYPE, LAYER_TYPE, Layout, LayoutError, MANIFEST_TYPE, REF_NAME, index_of,
};
pub use lock::{LOCK_FILE, Lock, Pinned};
pub use mirror::Mirror;
pub use pull_through::PullThrough;
pub use remote::Remote;
pub use store::{ImageStore, Resolved};

pub(crate) use content::ImageFiles;
pub(crate) use files::{clean, removed};
pub(crate) use image::{ImageLayer, Proof};
pub(crate) use tar_files::each;

/// The readers of images. They are public for the fuzz targets alone, which are a crate of their own.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::{content::ImageFiles, exchange::challenge, files::extract, names::others};
}
