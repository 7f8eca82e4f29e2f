//! Compression formats of kernels and initramfs archives. The content determines the format, because Talos
//! names its archive `initramfs.xz` for every format.

use std::io::{self, Read};

use liblzma::{bufread::XzDecoder, stream::Stream};

use super::lz4::LegacyLz4;

/// Memory limit for xz in bytes: four times the requirement of the highest preset.
const XZ_MEMORY: u64 = 256 << 20;

/// A compression format, detected by magic bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz file format 1.1.0.
    Xz,
    /// LZ4 in the legacy frame format, as written by the kernel tools.
    Lz4,
    /// No known compression format.
    Uncompressed,
}

impl Compression {
    /// Detects the format from the first bytes of the data; six bytes are sufficient.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x02, 0x21, 0x4c, 0x18, ..] => Self::Lz4,
            _ => Self::Uncompressed,
        }
    }
}

/// Decompresses `input`. Consecutive streams of the same format count as one stream.
///
/// # Errors
/// Returns an error if the header cannot be read.
pub fn unpacked<'a>(
    compression: Compression,
    input: impl io::BufRead + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::Uncompressed => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
        Compression::Lz4 => Box::new(LegacyLz4::new(input)),
    })
}

/// Decompresses `input` to `output` and returns the number of bytes written. `limit` bounds the output, so
/// that a small hostile file cannot fill the disk.
///
/// # Errors
/// Returns read, write and format errors, the errors of [`unpacked`], and [`io::ErrorKind::FileTooLarge`]
/// above the limit.
pub fn decompress(
    compression: Compression,
    input: impl io::BufRead,
    output: &mut impl io::Write,
    limit: u64,
) -> io::Result<u64> {
    copy_limited(unpacked(compression, input)?, output, limit)
}

fn copy_limited(input: impl Read, output: &mut impl io::Write, limit: u64) -> io::Result<u64> {
    let copied = io::copy(&mut input.take(limit.saturating_add(1)), output)?;
    if copied > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it unpacks to more than {limit} bytes, which no node image needs"),
        ));
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_image_fixtures::xz;

    fn round_trip(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(Compression::detect(data), data, &mut out, 1 << 20)?;
        Ok(out)
    }

    #[test]
    fn zstd_and_plain_data_come_out_as_they_went_in() {
        let text = b"070701 cpio".repeat(100);
        assert_eq!(round_trip(&text).expect("plain"), text);
        assert_eq!(round_trip(&zstd::encode_all(&text[..], 1).expect("encode")).expect("zstd"), text);
    }

    #[test]
    fn xz_streams_one_after_another_are_one() {
        assert_eq!(round_trip(&[xz(b"first "), xz(b"second")].concat()).expect("xz"), b"first second");
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::encode_all(io::repeat(0).take(8 << 20), 3).expect("encode");
        assert_eq!(round_trip(&bomb).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn truncated_data_is_an_error() {
        let packed = zstd::encode_all(&b"hello".repeat(1000)[..], 1).expect("encode");
        assert!(round_trip(&packed[..packed.len() / 2]).is_err());
    }
}
