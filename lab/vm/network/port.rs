//! One port of the switch: a queue towards a QEMU, and the framing of QEMU's `stream` back end.
//!
//! On the wire, a length prefix (big-endian u32) precedes every frame (QEMU `net/stream.c`). The
//! switch keeps the prefix when it moves a frame from one port to another.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
};

use lab_model::node::NodeName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::Notify,
};

use super::counters::PortTally;

/// Bytes of the length prefix.
pub const PREFIX: usize = 4;

/// The largest frame: the size of QEMU's own buffers (`NET_BUFSIZE`, 4 KiB + 64 KiB).
const LONGEST: usize = 4096 + 65_536;

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = super::packet::ETHERNET;

/// The maximum number of bytes that wait for a port that does not read. TCP windows stay below this
/// value, and a stopped guest uses no more memory than this.
const QUEUE: usize = 4 << 20;

/// Room for several of the largest frames, so that one read returns all collected frames.
const READ_BUFFER: usize = 4 * LONGEST;

/// A reason to inspect the frames of a port.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Mark {
    /// The link is cut.
    Cut = 1,
    /// The link is impaired.
    Shaped = 2,
    /// The link's frames are captured.
    Captured = 4,
    /// The LAN is partitioned.
    Parted = 8,
    /// UDP does not pass between this port and the uplink.
    NoDatagrams = 16,
}

/// The marks of one port, or of two ports.
#[derive(Clone, Copy)]
pub struct Marks(u8);

impl Marks {
    /// Whether no mark is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A frame with its length prefix.
pub(super) fn prefixed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, frame].concat()
}

/// One port of the switch.
pub struct Port {
    /// The node of the port; `None` for the uplink.
    pub node: Option<NodeName>,
    pub tally: PortTally,
    marks: AtomicU8,
    connected: AtomicBool,
    queue: Mutex<Vec<u8>>,
    filled: Notify,
}

impl Port {
    pub fn new(node: Option<NodeName>) -> Self {
        Self {
            node,
            tally: PortTally::default(),
            marks: AtomicU8::new(0),
            connected: AtomicBool::new(false),
            queue: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// The port's name in counters and notes.
    pub fn name(&self) -> String {
        self.node.as_ref().map_or_else(|| "uplink".to_owned(), ToString::to_string)
    }

    /// The marks to check before a frame passes. One atomic load per frame: without faults, this is
    /// the only cost.
    pub fn marks(&self) -> Marks {
        Marks(self.marks.load(Relaxed))
    }

    /// Sets or clears a mark.
    pub fn mark(&self, mark: Mark, set: bool) {
        if set {
            self.marks.fetch_or(mark as u8, Relaxed);
        } else {
            self.marks.fetch_and(!(mark as u8), Relaxed);
        }
    }

    /// Queues a frame with its prefix without waiting. A frame that does not fit is dropped, so that a port
    /// that does not read does not block other ports. Returns whether the frame was queued.
    pub fn send(&self, prefixed: &[u8]) -> bool {
        if !self.connected.load(Relaxed) {
            return false;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() + prefixed.len() > QUEUE {
            self.tally.count_slow();
            return false;
        }
        let was_empty = queue.is_empty();
        queue.extend_from_slice(prefixed);
        drop(queue);
        self.tally.count_out(prefixed.len() - PREFIX);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// Serves one QEMU after another: a restarted VM connects to the same port. Calls `greet` first,
    /// then `forward` for every received frame with its prefix.
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
            // A failure of either direction means that this QEMU is gone.
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
            // A busy guest must not block the others.
            tokio::task::yield_now().await;
        }
    }

    /// Passes every complete frame to `forward` and returns the number of consumed bytes.
    pub fn split(&self, bytes: &[u8], forward: &impl Fn(&[u8])) -> io::Result<usize> {
        let mut used = 0;
        while let Some(prefix) = bytes.get(used..used + PREFIX) {
            let length = u32::from_be_bytes(prefix.try_into().unwrap_or_default()) as usize;
            if length > LONGEST {
                // After this error, the start of the next frame is unknown.
                self.tally.count_malformed();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than QEMU sends"));
            }
            let Some(frame) = bytes.get(used..used + PREFIX + length) else { break };
            if length < SHORTEST {
                self.tally.count_malformed();
            } else {
                forward(frame);
            }
            used += PREFIX + length;
        }
        Ok(used)
    }

    async fn write(&self, mut stream: impl AsyncWriteExt + Unpin) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            // All frames that were queued during the last write go out in one write; the two buffers
            // swap.
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
