use std::io::{self, Read};

use lab_model::Digest;
use sha2::{Digest as _, Sha256};

/// A reader that hashes and counts its data.
pub struct Hashed<R> {
    input: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Hashed<R> {
    pub fn new(input: R) -> Self {
        Self { input, hasher: Sha256::new(), bytes: 0 }
    }

    /// Returns the number of bytes read.
    pub fn count(&self) -> u64 {
        self.bytes
    }

    /// Reads the remaining data and returns the digest of all data.
    pub fn digest(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::of_hash(self.hasher))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
