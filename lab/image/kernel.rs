//! Kernel files. QEMU boots a raw arm64 `Image`; distributions wrap it in other formats.
//!
//! Formats: the arm64 boot protocol (Linux Documentation/arch/arm64/booting.rst: magic `ARM\x64` at 0x38)
//! and the EFI zboot header (Linux drivers/firmware/efi/libstub/zboot-header.S: `MZ`, `zimg` at 4,
//! little-endian payload offset at 8 and size at 12, compression name at 24). QEMU before version 9 cannot
//! load zboot with `-kernel`; later versions load it only if the payload is gzip.

use std::borrow::Cow;

use super::{
    compression::{Compression, decompress},
    kernel_error::{KERNEL_LIMIT, KernelError},
    uki,
};

/// Maximum nesting of wrappers; a unified kernel image with a zboot file has three.
const WRAPPINGS: usize = 4;

/// Extracts the raw arm64 `Image` from `file`.
///
/// # Errors
/// See [`KernelError`].
pub fn raw_kernel(file: &[u8]) -> Result<Cow<'_, [u8]>, KernelError> {
    let mut image = Cow::Borrowed(file);
    for _ in 0..WRAPPINGS {
        if image.len() as u64 > KERNEL_LIMIT {
            return Err(KernelError::TooLarge);
        }
        if image.get(0x38..0x3c) == Some(b"ARM\x64") {
            return Ok(image);
        }
        image = match image {
            Cow::Borrowed(wrapped) => unwrapped(wrapped)?,
            Cow::Owned(wrapped) => Cow::Owned(unwrapped(&wrapped)?.into_owned()),
        };
    }
    Err(KernelError::unknown(&image))
}

/// Removes the outermost wrapper of `file`.
fn unwrapped(file: &[u8]) -> Result<Cow<'_, [u8]>, KernelError> {
    if file.get(0x202..0x206) == Some(b"HdrS") {
        return Err(KernelError::Architecture { found: "x86" });
    }
    if file.starts_with(b"MZ") && file.get(4..8) == Some(b"zimg") {
        return payload_of_zboot(file);
    }
    if file.starts_with(b"MZ") {
        return uki::kernel_of(file).map(Cow::Borrowed);
    }
    match Compression::detect(file) {
        Compression::Uncompressed => Err(KernelError::unknown(file)),
        _ => unpacked(file),
    }
}

fn payload_of_zboot(file: &[u8]) -> Result<Cow<'_, [u8]>, KernelError> {
    let word = |at: usize| {
        file.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    };
    let (offset, size) = (word(8), word(12));
    let payload =
        offset.checked_add(size).and_then(|end| file.get(offset..end)).ok_or(KernelError::Truncated {
            offset: offset as u64,
            size: size as u64,
            file: file.len() as u64,
        })?;
    unpacked(payload)
}

fn unpacked(payload: &[u8]) -> Result<Cow<'static, [u8]>, KernelError> {
    let mut image = Vec::new();
    decompress(Compression::detect(payload), payload, &mut image, KERNEL_LIMIT)
        .map_err(KernelError::Payload)?;
    Ok(Cow::Owned(image))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use lab_image_fixtures::gzip;

    fn image() -> Vec<u8> {
        let mut image = vec![0u8; 0x1000];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        image
    }

    fn zboot(payload: &[u8]) -> Vec<u8> {
        let mut file = b"MZ\0\0zimg".to_vec();
        file.extend(64u32.to_le_bytes());
        file.extend((payload.len() as u32).to_le_bytes());
        file.resize(64, 0);
        file.extend(payload);
        file
    }

    #[test]
    fn every_wrapping_gives_the_same_image() {
        let image = image();
        let zstd = zstd::encode_all(&image[..], 1).expect("encode");
        let unified = lab_image_fixtures::pe(0xaa64, &[(".linux", &zboot(&zstd))]);
        for file in [image.clone(), gzip(&image), zboot(&gzip(&image)), zboot(&zstd), gzip(&unified)] {
            assert_eq!(raw_kernel(&file).expect("kernel").as_ref(), image);
        }
    }

    #[test]
    fn an_x86_kernel_is_named_as_such() {
        let mut file = vec![0u8; 0x400];
        file[0x202..0x206].copy_from_slice(b"HdrS");
        assert!(matches!(raw_kernel(&file), Err(KernelError::Architecture { found: "x86" })));
    }

    #[test]
    fn a_cut_zboot_file_says_that_it_is_truncated() {
        let file = zboot(&gzip(&image()));
        assert!(matches!(raw_kernel(&file[..file.len() - 1]), Err(KernelError::Truncated { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), zboot: bool) {
            if zboot && bytes.len() > 8 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[4..8].copy_from_slice(b"zimg");
            }
            let _ = raw_kernel(&bytes);
        }
    }
}
