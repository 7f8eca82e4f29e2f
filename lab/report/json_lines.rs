//! The recording of a run: one event per line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use lab_model::events::{Event, Subscription};
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
        let mut file = File::create(path)?;
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

/// Reads a recording. Skips a last line that a crash truncated.
///
/// # Errors
/// Fails if the file cannot be read, or if a complete line is not an event. The error contains the
/// line number.
pub fn read_recording(path: &Path) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        if reader.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            break;
        }
        let event = serde_json::from_str(&line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {number} is not an event: {error}"))
        })?;
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
}
