//! Unified kernel images: an EFI program with kernel, initramfs and kernel arguments in its sections.
//!
//! Format: UAPI Group specification "Unified Kernel Image" (sections `.linux`, `.initrd`, `.cmdline`,
//! `.osrel`, `.uname`), in a PE file (Microsoft PE format, section table). Talos installs a unified kernel
//! image since version 1.10, as `vmlinuz.efi`.

use std::{fs::File, io, path::Path};

use object::{
    LittleEndian as LE, ReadCache,
    pe::{IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, ImageNtHeaders64},
    read::pe::{ImageNtHeaders, PeFile},
};

use super::{
    kernel_error::KernelError,
    part::{Part, Section},
};
use crate::AssetError;

/// A limit in bytes, above the size of any text section.
const TEXT_LIMIT: u64 = 64 << 10;
/// The section with the kernel.
const LINUX: &str = ".linux";

/// A unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnifiedImage {
    /// The kernel, wrapped or raw.
    pub kernel: Part,
    pub initramfs: Part,
    /// The kernel arguments in the image.
    pub arguments: Option<String>,
}

impl UnifiedImage {
    /// Reads the section table of `file`.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, is not a unified kernel image, or is for another
    /// architecture.
    pub fn open(file: &Path) -> Result<Self, AssetError> {
        let opened = File::open(file).map_err(AssetError::file("open", file))?;
        let length = opened.metadata().map_err(AssetError::file("read", file))?.len();
        let sections = sections(opened, length)
            .map_err(|source| AssetError::Kernel { path: file.to_owned(), source })?;
        let part = |name: &'static str| {
            let section = sections.iter().find(|section| section.name == name).cloned();
            let missing = KernelError::SectionMissing { name };
            let section = section.ok_or(AssetError::Kernel { path: file.to_owned(), source: missing })?;
            Ok(Part { file: file.to_owned(), section: Some(section) })
        };
        let (kernel, initramfs) = (part(LINUX)?, part(".initrd")?);
        let arguments = match part(".cmdline") {
            Ok(part) => Some(text(&part).map_err(AssetError::file("read", file))?),
            Err(_) => None,
        };
        Ok(Self { kernel, initramfs, arguments })
    }
}

fn text(part: &Part) -> io::Result<String> {
    let bytes = part.read(TEXT_LIMIT)?;
    Ok(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
}

/// Returns the kernel in the bytes of a unified kernel image.
pub(super) fn kernel_of(file: &[u8]) -> Result<&[u8], KernelError> {
    let sections = sections(io::Cursor::new(file), file.len() as u64)?;
    let kernel = sections.iter().find(|section| section.name == LINUX);
    let section = kernel.ok_or(KernelError::SectionMissing { name: LINUX })?;
    let end = section.offset.saturating_add(section.size);
    let bytes = usize::try_from(section.offset).ok().zip(usize::try_from(end).ok());
    Ok(bytes.and_then(|(start, end)| file.get(start..end)).unwrap_or_default())
}

/// Parses the sections of a PE file for arm64.
fn sections(file: impl io::Read + io::Seek, length: u64) -> Result<Vec<Section>, KernelError> {
    let cache = ReadCache::new(file);
    let broken = |error: object::Error| KernelError::NotUnified { why: error.to_string() };
    let image: PeFile<'_, ImageNtHeaders64, _> = PeFile::parse(&cache).map_err(broken)?;
    match image.nt_headers().file_header().machine.get(LE) {
        IMAGE_FILE_MACHINE_ARM64 => {}
        IMAGE_FILE_MACHINE_AMD64 => return Err(KernelError::Architecture { found: "amd64" }),
        machine => return Err(KernelError::NotUnified { why: format!("its machine type is {machine:#x}") }),
    }
    let sections = image.section_table().iter().map(|header| {
        let (offset, stored) = header.pe_file_range();
        let (offset, stored) = (u64::from(offset), u64::from(stored));
        let name = header.raw_name();
        if offset + stored > length {
            return Err(KernelError::Truncated { offset, size: stored, file: length });
        }
        Ok(Section { name: String::from_utf8_lossy(name).into_owned(), offset, size: stored })
    });
    sections.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use lab_image_fixtures::pe;

    fn opened(bytes: &[u8]) -> Result<(UnifiedImage, tempfile::NamedTempFile), AssetError> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), bytes).expect("write");
        UnifiedImage::open(file.path()).map(|image| (image, file))
    }

    fn read(part: &Part) -> Vec<u8> {
        let mut bytes = Vec::new();
        part.open().expect("open").read_to_end(&mut bytes).expect("read");
        bytes
    }

    const PARTS: [(&str, &[u8]); 3] =
        [(".cmdline", b"console=ttyAMA0\n\0"), (".linux", b"the kernel"), (".initrd", &[7; 700])];

    #[test]
    fn sections_come_out_as_they_went_in() {
        let (image, _file) = opened(&pe(IMAGE_FILE_MACHINE_ARM64, &PARTS)).expect("open");
        assert_eq!(image.arguments.as_deref(), Some("console=ttyAMA0"));
        assert_eq!(read(&image.kernel), b"the kernel");
        assert_eq!(read(&image.initramfs), [7; 700]);
    }

    #[test]
    fn what_is_not_one_is_told_why() {
        let error = |bytes: &[u8]| opened(bytes).expect_err("refused").to_string();
        assert!(error(&pe(IMAGE_FILE_MACHINE_AMD64, &PARTS)).contains("it is a kernel for amd64"));
        assert!(error(&pe(IMAGE_FILE_MACHINE_ARM64, &PARTS[..2])).contains("no section .initrd"));
        let whole = pe(IMAGE_FILE_MACHINE_ARM64, &PARTS);
        assert!(error(&whole[..whole.len() - 600]).contains("truncated"));
        assert!(error(b"MZ").contains("is not a unified kernel image"));
    }
}
