//! One port of the switch: a queue towards a QEMU, and the framing of QEMU's `stream` back end.
//!
//! On the wire every frame is preceded by its length as a big-endian u32 (QEMU `net/stream.c`).
//! The switch keeps that prefix when it moves a frame from one port to another.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::Notify,
};

use super::counters::PortTally;
use crate::node::NodeName;

/// Bytes of the length prefix.
pub(super) const PREFIX: usize = 4;

/// The largest frame: what QEMU's own buffers hold (`NET_BUFSIZE`, 4 KiB + 64 KiB).
const LONGEST: usize = 4096 + 65_536;

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = super::packet::ETHERNET;

/// How much may wait for a port that does not read. TCP's own windows stay below it; a guest that
/// is stopped costs no more than this.
const QUEUE: usize = 4 << 20;

/// Room for several of the largest frames, so that one read takes what has gathered.
const READ_BUFFER: usize = 4 * LONGEST;

/// One port of the switch.
pub(super) struct Port {
    /// Whose port; `None` is the uplink.
    pub node: Option<NodeName>,
    pub tally: PortTally,
    up: AtomicBool,
    datagrams: AtomicBool,
    connected: AtomicBool,
    queue: Mutex<Vec<u8>>,
    filled: Notify,
}

impl Port {
    pub fn new(node: Option<NodeName>) -> Self {
        Self {
            node,
            tally: PortTally::default(),
            up: AtomicBool::new(true),
            datagrams: AtomicBool::new(true),
            connected: AtomicBool::new(false),
            queue: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// The port's name in counters and notes.
    pub fn name(&self) -> String {
        self.node.as_ref().map_or_else(|| "uplink".to_owned(), ToString::to_string)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    /// Whether UDP passes between this port and the uplink.
    pub fn passes_datagrams(&self) -> bool {
        self.datagrams.load(Relaxed)
    }

    pub fn set_datagrams(&self, pass: bool) {
        self.datagrams.store(pass, Relaxed);
    }

    /// Queues a frame with its prefix; never waits. A frame that does not fit is dropped, so that
    /// a port that does not read stalls nobody else.
    pub fn send(&self, prefixed: &[u8]) {
        self.enqueue(&[prefixed]);
    }

    /// Queues a frame that has no prefix yet.
    pub fn send_frame(&self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.enqueue(&[&length, frame]);
    }

    fn enqueue(&self, parts: &[&[u8]]) {
        if !self.connected.load(Relaxed) {
            return;
        }
        if !self.is_up() {
            return self.tally.count_down();
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() + length > QUEUE {
            return self.tally.count_slow();
        }
        let was_empty = queue.is_empty();
        for part in parts {
            queue.extend_from_slice(part);
        }
        drop(queue);
        self.tally.count_out(length - PREFIX);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Serves one QEMU after the other: a VM that is started anew finds its port again. Every
    /// frame that comes in goes, with its prefix, to `forward`; `greet` is called first.
    pub async fn serve(
        &self,
        listener: UnixListener,
        greet: impl Fn(),
        forward: impl Fn(&[u8]),
    ) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            self.clear();
            self.connected.store(true, Relaxed);
            greet();
            let (reader, writer) = stream.into_split();
            // Either end's failure means that this QEMU is gone.
            tokio::select! {
                _ = self.read(reader, &forward) => {}
                _ = self.write(writer) => {}
            }
            self.connected.store(false, Relaxed);
            self.clear();
        }
    }

    async fn read(&self, mut stream: impl AsyncReadExt + Unpin, forward: &impl Fn(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; READ_BUFFER];
        let mut filled = 0;
        loop {
            let count = stream.read(&mut buffer[filled..]).await?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let used = self.split(&buffer[..filled], forward)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            // One busy guest must not keep the others waiting.
            tokio::task::yield_now().await;
        }
    }

    /// Hands over every complete frame and says how many bytes they were.
    pub fn split(&self, bytes: &[u8], forward: &impl Fn(&[u8])) -> io::Result<usize> {
        let mut used = 0;
        while let Some(prefix) = bytes.get(used..used + PREFIX) {
            let length = u32::from_be_bytes(prefix.try_into().unwrap_or_default()) as usize;
            if length > LONGEST {
                // Where the next frame starts is unknown from here on.
                self.tally.count_malformed();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than QEMU sends"));
            }
            let Some(frame) = bytes.get(used..used + PREFIX + length) else { break };
            if length < SHORTEST {
                self.tally.count_malformed();
            } else if self.is_up() {
                self.tally.count_in(length);
                forward(frame);
            } else {
                self.tally.count_down();
            }
            used += PREFIX + length;
        }
        Ok(used)
    }

    async fn write(&self, mut stream: impl AsyncWriteExt + Unpin) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            // All that gathered during the last write goes out in one; the two buffers swap.
            std::mem::swap(&mut batch, &mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
            if batch.is_empty() {
                self.filled.notified().await;
                continue;
            }
            stream.write_all(&batch).await?;
            batch.clear();
        }
    }

    fn clear(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
