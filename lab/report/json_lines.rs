//! The recording of a run: one event per line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use lab_model::{
    events::{Event, Subscription},
    files::create_private,
};
use tokio::task::JoinHandle;

/// Writes every event to a file immediately, so that a run that dies leaves its events.
pub struct JsonLines {
    writer: JoinHandle<io::Result<()>>,
}

impl JsonLines {
    /// Starts to write to `path`.
    ///
    /// # Errors
    /// Fails if the file cannot be created.
    pub fn start(mut events: Subscription, path: &Path) -> io::Result<Self> {
        let mut file = create_private(path)?;
        let writer = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(64);
            while events.recv_many(&mut batch, 64).await > 0 {
                let mut lines = Vec::new();
                for event in batch.drain(..) {
                    serde_json::to_writer(&mut lines, &event)?;
                    lines.push(b'\n');
                }
                file.write_all(&lines)?;
            }
            Ok(())
        });
        Ok(Self { writer })
    }

    /// Waits until the stream has ended and all events are written.
    ///
    /// # Errors
    /// Fails if an earlier write failed.
    pub async fn finish(self) -> io::Result<()> {
        self.writer.await.map_err(io::Error::other)?
    }
}

/// The longest line of a recording, in bytes: more than the recorder writes for any event.
const LONGEST_LINE: u64 = 4 << 20;
/// The most that is read of one recording, or of recordings that are joined. A run with six nodes and all checks records
/// some megabytes and some ten thousand events.
const LARGEST: u64 = 128 << 20;
const MOST_EVENTS: usize = 500_000;

/// What may still be read. Several recordings can share it.
pub(crate) struct Room {
    bytes: u64,
    events: usize,
}

impl Room {
    pub(crate) fn of_one_run() -> Self {
        Self { bytes: LARGEST, events: MOST_EVENTS }
    }
}

/// Reads a recording, which may come from anybody: its texts are made visible again. Skips a last line that a crash
/// truncated.
///
/// # Errors
/// Fails if the file cannot be read, or if a complete line is not an event. The error contains the
/// line number.
pub fn read_recording(path: &Path) -> io::Result<Vec<Event>> {
    read_within(path, &mut Room::of_one_run())
}

/// As [`read_recording`], within `room`.
pub(crate) fn read_within(path: &Path, room: &mut Room) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(LONGEST_LINE).read_line(&mut line)? as u64;
        if read == 0 {
            break;
        }
        let left = room.bytes.checked_sub(read).zip(room.events.checked_sub(1));
        let Some((bytes, events_left)) = left.filter(|_| read < LONGEST_LINE) else {
            let limits = format!(
                "{} MiB a line, {} MiB and {MOST_EVENTS} events in all",
                LONGEST_LINE >> 20,
                LARGEST >> 20
            );
            return Err(wrong(format!("line {number} exceeds the limits of a recording: {limits}")));
        };
        *room = Room { bytes, events: events_left };
        if !line.ends_with('\n') {
            break;
        }
        let mut event: Event = serde_json::from_str(&line)
            .map_err(|error| wrong(format!("line {number} is not an event: {error}")))?;
        event.kind = event.kind.made_visible();
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::events::{EventKind, Recorder, Subject};

    #[tokio::test]
    async fn a_recording_reads_back_and_a_torn_last_line_does_no_harm() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("events.jsonl");
        let recorder = Recorder::new();
        let sink = JsonLines::start(recorder.subscribe(), &path).expect("start");
        for text in ["a", "b\nc", "ü"] {
            recorder.record(EventKind::Note { subject: Subject::Cluster, text: text.into() });
        }
        recorder.close();
        sink.finish().await.expect("finish");
        assert_eq!(read_recording(&path).expect("read").len(), 3);
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"{\"seq\":3,").expect("write");
        assert_eq!(read_recording(&path).expect("read torn").len(), 3);
        file.write_all(b"\n").expect("write");
        assert!(read_recording(&path).expect_err("broken").to_string().starts_with("line 4"));
    }

    #[test]
    fn an_endless_line_is_not_read_into_memory() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("events.jsonl");
        let file = File::create(&path).expect("create");
        file.set_len(1 << 40).expect("sparse");
        let error = read_recording(&path).expect_err("endless").to_string();
        let limits = "4 MiB a line, 128 MiB and 500000 events in all";
        assert_eq!(error, format!("line 1 exceeds the limits of a recording: {limits}"));
    }
}
