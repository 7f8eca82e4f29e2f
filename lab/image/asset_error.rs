//! Why the files of an image cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{checksums::ChecksumFault, disk_image::DiskImageError, kernel_error::KernelError};

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// Nothing that looks like an image.
    #[error(
        "no node image at {}: found {found}; expected one of: {expected} (build the reference image with: \
         make images)",
        path.display()
    )]
    NotFound {
        /// Where was looked.
        path: PathBuf,
        /// What is there.
        found: String,
        /// The layouts that would do.
        expected: String,
    },
    /// Release files of more than one image.
    #[error(
        "{} holds several variants: {variants}; name one by one of its files, e.g. {}",
        directory.display(),
        directory.join(example).display()
    )]
    SeveralVariants {
        /// Where was looked.
        directory: PathBuf,
        /// Which.
        variants: String,
        /// A file of the first.
        example: String,
    },
    /// A checksum file that does not hold.
    #[error("checksums of the image in {}: {fault}", directory.display())]
    Checksum {
        /// The image directory.
        directory: PathBuf,
        /// What is wrong.
        fault: ChecksumFault,
    },
    /// A kernel that cannot be booted.
    #[error("kernel {}: {source}", path.display())]
    Kernel {
        /// The kernel file.
        path: PathBuf,
        /// Why.
        source: KernelError,
    },
    /// A disk image that cannot be used.
    #[error("disk image {}: {source}", path.display())]
    Disk {
        /// The disk image.
        path: PathBuf,
        /// Why.
        source: DiskImageError,
    },
    /// A file that could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AssetError {
    pub(super) fn file<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> AssetError + use<'a> {
        move |source| AssetError::File { action, path: path.to_owned(), source }
    }
}
