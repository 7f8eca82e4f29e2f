//! Errors of kernel files.

/// A limit in bytes, above the packed and unpacked size of any kernel.
pub(super) const KERNEL_LIMIT: u64 = 128 << 20;

/// The reason a kernel file cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A PE or Linux image for another architecture.
    #[error("it is a kernel for {found}, but the lab boots arm64; use the arm64 build of the image")]
    Architecture {
        /// The detected architecture.
        found: &'static str,
    },
    /// The file is larger than any kernel.
    #[error("it has more than {KERNEL_LIMIT} bytes; no kernel does")]
    TooLarge,
    /// The file has no known kernel format.
    #[error(
        "it starts with {head:02x?}, which is neither an arm64 Image, nor gzip, nor EFI zboot, nor a unified \
         kernel image"
    )]
    Unknown {
        /// The first bytes of the file.
        head: Vec<u8>,
    },
    /// The PE file is not a unified kernel image.
    #[error("it is not a unified kernel image: {why}")]
    NotUnified {
        /// The missing or invalid property.
        why: String,
    },
    /// The unified kernel image has no kernel or no initramfs.
    #[error("it is not a unified kernel image: it has no section {name}")]
    SectionMissing {
        /// The name of the missing section.
        name: &'static str,
    },
    /// A header refers to data outside the file.
    #[error("its header says {size} bytes at offset {offset}, but the file has {file}; it is truncated")]
    Truncated {
        /// The offset of the payload in the header.
        offset: u64,
        /// The size of the payload in the header.
        size: u64,
        /// The size of the file.
        file: u64,
    },
    /// The payload cannot be decompressed.
    #[error("its compressed payload does not unpack: {0}")]
    Payload(std::io::Error),
}

impl KernelError {
    pub(super) fn unknown(file: &[u8]) -> Self {
        Self::Unknown { head: file.iter().take(8).copied().collect() }
    }
}
