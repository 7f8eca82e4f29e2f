//! Node images: sources, kernel, initramfs, checksums, extensions.
//!
//! [`Inspection::of`] inspects an image without booting it. [`NodeImage::open`] finds the boot files of an
//! image directory or a disk image and verifies their checksums. A [`DiskCache`] stores the boot files of
//! disk images. [`BootCache::prepare`] converts boot files to a form that QEMU can boot and that the guest
//! need not decompress (a raw kernel `Image`, an uncompressed initramfs). It caches the result by digest.

mod archive;
mod asset_error;
mod board_files;
mod boot_cache;
mod boot_entries;
mod checksums;
mod compression;
mod containerd;
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
mod kernel_facts;
mod kernel_module;
mod layer_file;
mod layout;
mod lz4;
mod machine;
mod module_index;
mod module_signature;
mod node_image;
mod part;
mod plain;
mod promised;
mod service_spec;
mod squashfs;
mod squashfs_inode;
mod squashfs_tree;
mod stacked_root;
mod uki;

pub use archive::{ArchiveEntry, ArchiveError, Archives};
pub use asset_error::AssetError;
pub use board_files::{BoardFile, board_files, device_tree_devices};
pub use boot_cache::{BootCache, BootFiles};
pub use boot_entries::Choice;
pub use checksums::{ChecksumFault, Checksums};
pub use compression::{Compression, decompress, unpacked};
pub use containerd::{RuntimeConfig, RuntimeHandler, containerd_major, go_modules};
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
pub use kernel_facts::{KernelFacts, TrustedKey};
pub use kernel_module::{KernelModule, MODULE_LIMIT, module_name, module_of};
pub use layer_file::LayerFile;
pub use layout::{Found, belongs};
pub use machine::ElfHead;
pub use module_index::{built_in_aliases, built_in_modules, compatible_of, listed_modules};
pub use module_signature::{ModuleSignature, Trust, split_signature};
pub use node_image::NodeImage;
pub use part::{Part, Section};
pub use service_spec::{ServiceFiles, ServiceSpec};
pub use squashfs::{Squashfs, SquashfsError};
pub use squashfs_inode::File as SquashfsFile;
pub use squashfs_tree::TreeEntry;
pub use stacked_root::{FoundFile, PathEntry, StackedRoot, resolve_path};
pub use uki::UnifiedImage;
