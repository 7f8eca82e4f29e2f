//! What a release archive contains that others wrote, with its licences.
//!
//! ```text
//! cargo metadata          -> crates that are linked to lab
//! go version -m           -> modules of the Go programs       } components -> CycloneDX, licence texts
//! reports of the images   -> modules and Debian packages
//! ```
//!
//! [`inventory`] collects the components. [`bill_of_materials`] and [`licences`] write them down. A component whose licence
//! text should be on this host and is not is an error: a list with holes looks like a complete one. This crate uses no
//! other crate of the project.

mod component;
mod crates;
mod cyclonedx;
mod debian;
mod error;
mod go_modules;
mod image_report;
mod licences;
mod run;
mod spdx;
mod texts;
mod workloads;

use std::path::PathBuf;

pub use component::{Component, Inventory, Kind, LicenceText};
pub use cyclonedx::{Subject, bill_of_materials, faults};
pub use error::InventoryError;
pub use licences::licences;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Places {
    /// The checkout of the project.
    pub project: PathBuf,
    /// The target triple for which `lab` was compiled.
    pub target: String,
    /// The directory of images, as it is shipped.
    pub images: PathBuf,
    /// The unpacked Debian packages from which the images were built, with their copyright files.
    pub debian: Option<PathBuf>,
}

/// Collects all components.
///
/// # Errors
/// See [`InventoryError`].
pub fn inventory(places: &Places) -> Result<Inventory, InventoryError> {
    let mut inventory = Inventory::default();
    crates::add(&mut inventory, &places.project, &places.target)?;
    debian::add_linked(&mut inventory, &places.target)?;
    let go = go_modules::Go::here(&places.project)?;
    go.add_programs_below(&mut inventory, &places.images)?;
    workloads::add(&mut inventory, &go, &places.images.join("workloads"))?;
    image_report::add(&mut inventory, &go, &places.images, places.debian.as_deref())?;
    Ok(inventory)
}
