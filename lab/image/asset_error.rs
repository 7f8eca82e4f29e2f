//! Errors for the files of an image.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{checksums::ChecksumFault, disk_image::DiskImageError, kernel_error::KernelError};

/// The reason an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// The path contains no known image layout.
    #[error(
        "no node image at {}: found {found}; expected one of: {expected} (the reference image comes with a \
         release archive of the lab, or is built with: make images)",
        path.display()
    )]
    NotFound {
        /// The path of the search.
        path: PathBuf,
        /// The files at the path.
        found: String,
        /// The accepted layouts.
        expected: String,
    },
    /// The directory contains release files of several images.
    #[error(
        "{} holds several variants: {variants}; select one by one of its files, e.g. {}",
        directory.display(),
        directory.join(example).display()
    )]
    SeveralVariants {
        directory: PathBuf,
        /// The names of the variants.
        variants: String,
        /// A file of the first variant.
        example: String,
    },
    /// A checksum is wrong, malformed or missing.
    #[error("checksums of the image in {}: {fault}", directory.display())]
    Checksum {
        /// The image directory.
        directory: PathBuf,
        fault: ChecksumFault,
    },
    /// The kernel is not bootable.
    #[error("kernel {}: {source}", path.display())]
    Kernel {
        /// The kernel file.
        path: PathBuf,
        source: KernelError,
    },
    /// The disk image is unusable.
    #[error("disk image {}: {source}", path.display())]
    Disk {
        /// The disk image file.
        path: PathBuf,
        source: DiskImageError,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        path: PathBuf,
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
