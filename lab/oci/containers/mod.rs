//! What container images hold, without a container engine: the programs that a container starts and all other programs
//! in the layers, with the architectures that they are for.
//!
//! [`Looker::look`] reads an image. Layers are streamed; only the first bytes of files are kept in memory, and what was
//! found in a layer is kept by its digest. [`ContainerImage::programs`] stacks the layers and follows the
//! entrypoint through links and wrapper scripts.

mod artefact;
mod bridge;
mod fact_cache;
mod image;
mod layer_facts;
mod looker;
mod programs;
mod script;

pub use artefact::artefact_texts;
pub use fact_cache::FactCache;
pub use image::ContainerImage;
pub use layer_facts::{LayerEntry, LayerFacts};
pub use looker::{Looker, LookerError};
pub use programs::{ForeignProgram, ImageKind, Programs};
pub use script::Script;
