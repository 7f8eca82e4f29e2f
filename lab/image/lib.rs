//! Node images: sources, kernel, initramfs, checksums, extensions.
//!
//! [`Inspection::of`] inspects an image without booting it. [`NodeImage::open`] finds the boot files of an
//! image directory or a disk image and verifies their checksums. A [`DiskCache`] stores the boot files of
//! disk images. [`BootCache::prepare`] converts boot files to a form that QEMU can boot and that the guest
//! need not decompress (a raw kernel `Image`, an uncompressed initramfs). It caches the result by digest.

mod archive;
mod asset_error;
mod boot_cache;
mod boot_entries;
mod checksums;
mod compression;
mod contents;
pub mod cpio_archive;
mod difference;
mod disk_cache;
mod disk_image;
mod edited_initramfs;
mod extensions;
mod fat;
mod hashed;
mod initramfs;
mod inspection;
mod inspection_text;
mod kept;
mod kernel;
mod kernel_error;
mod layout;
mod lz4;
mod node_image;
mod part;
mod plain;
mod promised;
mod service_spec;
mod squashfs;
mod squashfs_inode;
mod uki;

pub use archive::{ArchiveEntry, ArchiveError, Archives};
pub use asset_error::AssetError;
pub use boot_cache::{BootCache, BootFiles};
pub use boot_entries::Choice;
pub use checksums::{ChecksumFault, Checksums};
pub use compression::{Compression, decompress, unpacked};
pub use contents::{Contents, ContentsError, ExtensionService, LayerContents};
pub use difference::{Difference, Names};
pub use disk_cache::DiskCache;
pub use disk_image::{DiskImage, DiskImageError};
pub use edited_initramfs::without_extension;
pub use extensions::{Extension, ExtensionsError};
pub use fat::FatError;
pub use hashed::Hashed;
pub use initramfs::{Initramfs, InitramfsError, InitramfsLayer};
pub use inspection::{CheckedFile, FileVerdict, InspectError, Inspection};
pub use kept::keep_directory;
pub use kernel::raw_kernel;
pub use kernel_error::KernelError;
pub use layout::{Found, belongs};
pub use node_image::NodeImage;
pub use part::{Part, Section};
pub use service_spec::ServiceSpec;
pub use squashfs::{Squashfs, SquashfsError};
pub use squashfs_inode::File as SquashfsFile;
pub use uki::UnifiedImage;
