//! Why a kernel file cannot be booted.

/// More than any kernel file has, and unpacks to, in bytes.
pub(super) const KERNEL_LIMIT: u64 = 192 << 20;

/// Why a kernel file cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A PE or Linux image of another architecture.
    #[error("it is a kernel for {found}, and one for arm64 is needed; take the arm64 build of the image")]
    Architecture {
        /// What it is.
        found: &'static str,
    },
    /// A file that is no kernel, by its size.
    #[error("it has more than {KERNEL_LIMIT} bytes; no kernel does")]
    TooLarge,
    /// None of the known formats.
    #[error(
        "it starts with {head:02x?}, which is neither an arm64 Image, nor gzip, nor EFI zboot, nor a unified \
         kernel image"
    )]
    Unknown {
        /// The first bytes.
        head: Vec<u8>,
    },
    /// A PE file that is no unified kernel image.
    #[error("it is no unified kernel image: {why}")]
    NotUnified {
        /// Why not.
        why: String,
    },
    /// A unified kernel image without kernel or initramfs.
    #[error("it is no unified kernel image: it has no section {name}")]
    SectionMissing {
        /// Which.
        name: &'static str,
    },
    /// A header that points outside of the file.
    #[error("its header says {size} bytes at offset {offset}, but the file has {file}; it is truncated")]
    Truncated {
        /// Where the payload should start.
        offset: u64,
        /// How long it should be.
        size: u64,
        /// How long the file is.
        file: u64,
    },
    /// The payload does not unpack.
    #[error("its compressed payload does not unpack: {0}")]
    Payload(std::io::Error),
}

impl KernelError {
    pub(super) fn unknown(file: &[u8]) -> Self {
        Self::Unknown { head: file.iter().take(8).copied().collect() }
    }
}
