//! LZ4 in the legacy frame format. `lz4 -l` writes this format for kernels and initramfs files.
//!
//! Format: LZ4 Frame Format Description 1.6.4, "Legacy frame": the magic `0x184C2102`, then blocks. Each
//! block has the length of its compressed data (little endian) and the data. All blocks except the last
//! unpack to 8 MiB. Another frame may follow; its magic takes the place of a block length.

use std::io::{self, BufRead, Read};

/// The first four bytes of a frame, as a little-endian number.
const MAGIC: u32 = 0x184c_2102;
/// Maximum unpacked size of a block in bytes.
const BLOCK: usize = 8 << 20;
/// Maximum packed size of an incompressible block in bytes (`LZ4_COMPRESSBOUND`).
const PACKED: usize = BLOCK + BLOCK / 255 + 16;

/// Reads consecutive frames.
pub(super) struct LegacyLz4<R> {
    input: R,
    block: Vec<u8>,
    given: usize,
}

impl<R: BufRead> LegacyLz4<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, block: Vec::new(), given: 0 }
    }

    /// Unpacks the next block. Returns `false` at the end of the data or at zero padding.
    fn advance(&mut self) -> io::Result<bool> {
        let length = loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut word = [0; 4];
            self.input.read_exact(&mut word)?;
            match u32::from_le_bytes(word) {
                MAGIC => {}
                0 => return Ok(false),
                length => break length as usize,
            }
        };
        let broken = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        if length > PACKED {
            return Err(broken(format!(
                "an lz4 block says it has {length} bytes, and the maximum is {PACKED}"
            )));
        }
        let mut packed = vec![0; length];
        self.input.read_exact(&mut packed)?;
        self.block.resize(BLOCK, 0);
        let unpacked = lz4_flex::block::decompress_into(&packed, &mut self.block)
            .map_err(|error| broken(format!("a block of lz4 is damaged: {error}")))?;
        self.block.truncate(unpacked);
        self.given = 0;
        Ok(true)
    }
}

impl<R: BufRead> Read for LegacyLz4<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.block.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let rest = &self.block[self.given..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_le_bytes().to_vec();
        for block in data.chunks(BLOCK) {
            let block = lz4_flex::block::compress(block);
            out.extend((block.len() as u32).to_le_bytes());
            out.extend(block);
        }
        out
    }

    fn unpacked(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        LegacyLz4::new(data).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn blocks_frames_and_padding_are_read() {
        let large = b"a node image ".repeat(BLOCK / 12);
        assert_eq!(unpacked(&packed(&large)).expect("large"), large);
        let two = [packed(b"one "), packed(b"two"), vec![0; 8]].concat();
        assert_eq!(unpacked(&two).expect("two"), b"one two");
    }

    #[test]
    fn damage_is_an_error() {
        let whole = packed(&b"hello ".repeat(100));
        assert!(unpacked(&whole[..whole.len() - 1]).is_err());
        let error = unpacked(&[&MAGIC.to_le_bytes()[..], &[0xff; 4]].concat()).expect_err("long").to_string();
        assert!(error.contains("4294967295 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpacked(&[&MAGIC.to_le_bytes()[..], &bytes].concat());
        }
    }
}
