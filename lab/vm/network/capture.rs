//! Writes the frames of a link to a file.
//!
//! The switch appends frames to a buffer without waiting. A thread writes the collected frames a few
//! dozen times a second. Written data belongs to the operating system, so the file of a killed lab
//! contains all frames except the last moment.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab_model::network::Link;
use serde::{Deserialize, Serialize};

use super::{delays::Direction, pcapng};

/// The default limit of the file size: a few minutes of a busy node.
pub const CAPTURE_LIMIT: u64 = 256 << 20;

/// The maximum number of bytes that wait for a slow disk.
const PENDING: usize = 8 << 20;
/// The time between two writes.
const GATHER: Duration = Duration::from_millis(20);

/// The state of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureState {
    pub link: Link,
    pub file: PathBuf,
    /// Frames in the file.
    pub frames: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Frames that are missing in the file, because it was full or the disk was too slow.
    pub left_out: u64,
    /// The reason why the capture accepts no more frames, if it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// A running capture. Dropping it writes the remaining frames.
pub(super) struct Capture {
    link: Link,
    file: PathBuf,
    limit: u64,
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<CaptureFile>,
    changed: Condvar,
}

#[derive(Default)]
struct CaptureFile {
    pending: Vec<u8>,
    frames: u64,
    bytes: u64,
    left_out: u64,
    stopped: Option<String>,
    ended: bool,
}

impl Capture {
    /// Creates the file of the capture. Only its owner can read it, because frames may contain
    /// secrets.
    ///
    /// # Errors
    /// Fails if the file already exists or cannot be written.
    pub fn start(link: Link, file: &Path, limit: u64) -> io::Result<Self> {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        let head = pcapng::head(&link.to_string());
        opened.write_all(&head)?;
        let shared = Arc::new(Shared::default());
        shared.lock().bytes = head.len() as u64;
        let theirs = Arc::clone(&shared);
        let name = format!("capture-{link}");
        let writer = thread::Builder::new().name(name).spawn(move || theirs.write_to(&opened))?;
        Ok(Self { link, file: file.to_owned(), limit, shared, writer: Some(writer) })
    }

    /// Adds a frame. Returns the reason if the capture stops with this frame.
    pub fn take(&self, direction: Direction, frame: &[u8]) -> Option<String> {
        let mut state = self.shared.lock();
        if state.stopped.is_some() {
            state.left_out += 1;
            return None;
        }
        let length = pcapng::packet_length(frame.len());
        if state.bytes + length as u64 > self.limit {
            state.left_out += 1;
            let why = format!("the file has reached its limit of {} bytes", self.limit);
            state.stopped = Some(why.clone());
            return Some(why);
        }
        if state.pending.len() + length > PENDING {
            state.left_out += 1;
            return None;
        }
        pcapng::packet(&mut state.pending, now(), direction, frame);
        state.frames += 1;
        state.bytes += length as u64;
        drop(state);
        self.shared.changed.notify_one();
        None
    }

    /// The current state.
    pub fn state(&self) -> CaptureState {
        let state = self.shared.lock();
        CaptureState {
            link: self.link.clone(),
            file: self.file.clone(),
            frames: state.frames,
            bytes: state.bytes,
            left_out: state.left_out,
            stopped: state.stopped.clone(),
        }
    }

    /// Ends the capture and returns its final state, once all frames are written.
    pub fn stop(mut self) -> CaptureState {
        self.end();
        self.state()
    }

    fn end(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        {
            let mut state = self.shared.lock();
            let (seen, left_out) = (state.frames + state.left_out, state.left_out);
            let before = state.pending.len();
            pcapng::statistics(&mut state.pending, now(), seen, left_out);
            state.bytes += (state.pending.len() - before) as u64;
            state.ended = true;
        }
        self.shared.changed.notify_one();
        // A panic in the thread has already been printed, so the result is ignored.
        let _ = writer.join();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, CaptureFile> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the capture ends. A write error stops the capture.
    fn write_to(&self, mut file: &File) {
        let mut batch = Vec::new();
        loop {
            let ended = {
                let mut state = self.lock();
                while state.pending.is_empty() && !state.ended {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::swap(&mut batch, &mut state.pending);
                state.ended
            };
            if let Err(error) = file.write_all(&batch) {
                let mut state = self.lock();
                state.stopped.get_or_insert_with(|| format!("the file cannot be written: {error}"));
            }
            batch.clear();
            if ended {
                return;
            }
            thread::sleep(GATHER);
        }
    }
}

/// Nanoseconds since 1970; enough until 2554.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_capture_writes_every_frame_and_ends_with_what_it_saw() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("uplink.pcapng");
        let capture = Capture::start(Link::Uplink, &file, CAPTURE_LIMIT).unwrap();
        for _ in 0..100 {
            assert_eq!(capture.take(Direction::FromCard, &[1; 60]), None);
        }
        let state = capture.stop();
        assert_eq!((state.frames, state.left_out, state.stopped), (100, 0, None));
        let written = std::fs::metadata(&file).unwrap();
        assert_eq!(written.len(), state.bytes);
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_capture_is_on_disk_while_it_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.pcapng");
        let capture = Capture::start(Link::Uplink, &file, CAPTURE_LIMIT).unwrap();
        capture.take(Direction::ToCard, &[2; 1000]);
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::metadata(&file).unwrap().len() < 1000 && std::time::Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(std::fs::metadata(&file).unwrap().len(), capture.state().bytes);
    }

    #[test]
    fn a_capture_stops_at_its_limit_and_says_so_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.pcapng");
        let capture = Capture::start(Link::Uplink, &file, 2000).unwrap();
        let said: Vec<String> = (0..10).filter_map(|_| capture.take(Direction::ToCard, &[0; 900])).collect();
        assert_eq!(said, ["the file has reached its limit of 2000 bytes"]);
        let state = capture.stop();
        assert_eq!((state.frames, state.left_out), (1, 9));
        assert_eq!(state.stopped.as_deref(), Some(&*said[0]));
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mine");
        std::fs::write(&file, "mine").unwrap();
        assert!(Capture::start(Link::Uplink, &file, CAPTURE_LIMIT).is_err());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    }
}
