//! One port of the switch: a queue towards a QEMU, and the framing of QEMU's `stream` back end.
//!
//! On the wire every frame is preceded by its length as a big-endian u32 (QEMU `net/stream.c`).
//! The switch keeps that prefix when it moves a frame from one port to another.

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

/// The largest frame: what QEMU's own buffers hold (`NET_BUFSIZE`, 4 KiB + 64 KiB).
const LONGEST: usize = 4096 + 65_536;

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = super::packet::ETHERNET;

/// How much may wait for a port that does not read. TCP's own windows stay below it; a guest that
/// is stopped costs no more than this.
const QUEUE: usize = 4 << 20;

/// Room for several of the largest frames, so that one read takes what has gathered.
const READ_BUFFER: usize = 4 * LONGEST;

/// What a port's frames have to be looked at for.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Mark {
    /// The link is cut.
    Cut = 1,
    /// The link is impaired.
    Shaped = 2,
    /// The link's frames are captured.
    Captured = 4,
    /// The LAN is parted.
    Parted = 8,
    /// UDP does not pass between this port and the uplink.
    NoDatagrams = 16,
}

/// The marks of a port, or of two.
#[derive(Clone, Copy)]
pub struct Marks(u8);

impl Marks {
    /// Whether there is none.
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

/// A frame with its length before it.
pub(super) fn prefixed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, frame].concat()
}

/// One port of the switch.
pub struct Port {
    /// Whose port; `None` is the uplink.
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

    /// What has to be looked at before a frame passes. One load a frame: nothing else of a port's faults costs anything
    /// while there are none.
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

    /// Queues a frame with its prefix; never waits. A frame that does not fit is dropped, so that
    /// a port that does not read stalls nobody else. Returns whether it is queued.
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
