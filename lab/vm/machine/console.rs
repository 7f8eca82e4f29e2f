//! The serial console of a VM. Writes the raw output to a file, records each line on the event
//! stream, and detects lines that mean the end of a node.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use lab_model::{
    events::{EventKind, Recorder},
    node::NodeName,
};
use tokio::sync::watch;

use super::{fatal::FatalPattern, fatal_pattern, line::LineSplitter};

/// The number of lines that stay in memory; the file contains all lines.
const KEPT: usize = 4000;

/// The largest console log, in bytes. A guest that floods its console must not fill the disk.
const LARGEST_LOG: usize = 64 << 20;

/// The emulated PL011 sends one byte at a time. After a read, the reader waits this long for more
/// bytes: with several booting guests, one wake-up per byte costs a noticeable share of two cores.
/// The socket's buffer holds far more than a guest writes in this time.
const GATHER: Duration = Duration::from_millis(15);

/// A position in a console: lines after it are newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsoleMark(u64);

/// The data that has been read from a console.
#[derive(Clone)]
pub(super) struct Console {
    lines: Arc<Mutex<Lines>>,
    /// Counts changes, so that waiting tasks do not need to poll.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Lines {
    /// Index of the first kept line.
    first: u64,
    kept: VecDeque<String>,
    closed: bool,
}

impl Console {
    /// Reads `stream` until its end, on a separate thread. Calls `fatal` for each fatal line.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn read(
        node: NodeName,
        stream: UnixStream,
        log: File,
        recorder: Recorder,
        fatal: impl Fn(&'static FatalPattern, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let console = Self { lines: Arc::default(), changed: watch::Sender::new(0) };
        let reader = console.clone();
        thread::Builder::new().name(format!("console-{node}")).spawn(move || {
            let record = |line: String| {
                if let Some(pattern) = fatal_pattern(&line) {
                    fatal(pattern, &line);
                }
                recorder.record(EventKind::Console { node: node.clone(), line: line.clone() });
                reader.add(line);
            };
            pump(stream, log, record, || reader.announce());
            reader.lock().closed = true;
            reader.announce();
        })?;
        Ok(console)
    }

    /// The position after the current last line.
    pub fn mark(&self) -> ConsoleMark {
        let lines = self.lock();
        ConsoleMark(lines.first + lines.kept.len() as u64)
    }

    /// The last `n` lines.
    pub fn tail(&self, n: usize) -> Vec<String> {
        let lines = self.lock();
        lines.kept.iter().skip(lines.kept.len().saturating_sub(n)).cloned().collect()
    }

    /// Waits for a line after `mark` that contains `text`; `None` if the console has ended.
    pub async fn wait_for(&self, mut mark: ConsoleMark, text: &str) -> Option<String> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let lines = self.lock();
                let skip = usize::try_from(mark.0.saturating_sub(lines.first)).unwrap_or(usize::MAX);
                if let Some(line) = lines.kept.iter().skip(skip).find(|line| line.contains(text)) {
                    return Some(line.clone());
                }
                if lines.closed {
                    return None;
                }
                mark = ConsoleMark(lines.first + lines.kept.len() as u64);
            }
            // This cannot fail: the console holds a sender.
            let _ = changes.changed().await;
        }
    }

    /// Waits until the guest's end is closed and all data has been read.
    pub async fn closed(&self) {
        let mut changes = self.changed.subscribe();
        while !{
            changes.borrow_and_update();
            self.lock().closed
        } {
            let _ = changes.changed().await;
        }
    }

    fn add(&self, line: String) {
        let mut lines = self.lock();
        if lines.kept.len() == KEPT {
            lines.kept.pop_front();
            lines.first += 1;
        }
        lines.kept.push_back(line);
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies bytes until the stream ends. If a write to the log fails, the log is closed, but line
/// processing continues.
fn pump(stream: impl Read, log: File, line: impl FnMut(String), announce: impl Fn()) {
    pump_every(stream, log, line, announce, GATHER);
}

fn pump_every(
    mut stream: impl Read,
    log: File,
    mut line: impl FnMut(String),
    announce: impl Fn(),
    gather: Duration,
) {
    let (mut log, mut room) = (Some(log), LARGEST_LOG);
    let mut splitter = LineSplitter::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        log = log.filter(|log| {
            let mut log: &File = log;
            let fits = count.min(room);
            room -= fits;
            let written = log.write_all(&buffer[..fits]);
            let cut = if fits < count {
                log.write_all(b"\n[the lab writes no more of this console]\n")
            } else {
                Ok(())
            };
            written.and(cut).is_ok() && fits == count
        });
        splitter.push(&buffer[..count], &mut line);
        announce();
        thread::sleep(gather);
    }
    if let Some(rest) = splitter.finish() {
        line(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (Console, UnixStream, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("console.log")).unwrap();
        let (guest, lab) = UnixStream::pair().unwrap();
        let console = Console::read("node-1".parse().unwrap(), lab, log, Recorder::new(), |_, _| {}).unwrap();
        (console, guest, directory)
    }

    #[tokio::test]
    async fn a_wait_sees_lines_before_and_after_it_began() {
        let (console, mut guest, _directory) = console();
        guest.write_all(b"first line\r\n").unwrap();
        assert_eq!(console.wait_for(ConsoleMark::default(), "first").await.unwrap(), "first line");
        let mark = console.mark();
        let waiting = tokio::spawn({
            let console = console.clone();
            async move { console.wait_for(mark, "line").await }
        });
        guest.write_all(b"second line\r\n").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), "second line");
        assert_eq!(console.tail(1), ["second line"]);
    }

    #[test]
    fn a_flood_does_not_fill_the_disk_and_lines_are_still_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let flood = io::repeat(b'x').take(LARGEST_LOG as u64 + 100_000).chain(&b"\nlast line\n"[..]);
        let mut last = String::new();
        // The pauses of a real console would make this test slow.
        let reader = std::io::BufReader::with_capacity(1 << 20, flood);
        pump_every(reader, File::create(&path).unwrap(), |line| last = line, || {}, Duration::ZERO);
        assert_eq!(last, "last line");
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < LARGEST_LOG as u64 + 100, "{length}");
    }

    #[tokio::test]
    async fn the_end_of_the_console_ends_every_wait_and_the_log_is_raw() {
        let (console, mut guest, directory) = console();
        guest.write_all(b"\x1b[1mlast words").unwrap();
        drop(guest);
        assert_eq!(console.wait_for(ConsoleMark::default(), "never").await, None);
        console.closed().await;
        assert_eq!(console.tail(9), ["last words"]);
        assert_eq!(std::fs::read(directory.path().join("console.log")).unwrap(), b"\x1b[1mlast words");
    }
}
