//! A stream that a task fills and a thread reads. At most one buffer is between them.

use std::io::{self, Read};

use tokio::{
    io::{AsyncReadExt, DuplexStream},
    runtime::Handle,
};

/// The bytes between the writer and the reader.
pub(super) const BUFFER: usize = 256 << 10;

/// The reading end, for a thread that may block.
pub(super) struct BlockingReader {
    stream: DuplexStream,
    runtime: Handle,
    /// The number of bytes that were read.
    pub(super) count: u64,
}

impl BlockingReader {
    /// Creates the reading end in a task of the runtime.
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self { stream, runtime: Handle::current(), count: 0 }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.runtime.block_on(self.stream.read(buffer))?;
        self.count += read as u64;
        Ok(read)
    }
}
