//! The memory and the disk space of each reader of foreign bytes, for its worst input. Each reader runs in a process of
//! its own, whose peak the kernel reports. `cargo test --test limits -- --nocapture` prints the table of
//! docs/security.md.

#[path = "limits/images.rs"]
mod images;
#[path = "limits/texts.rs"]
mod texts;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The most memory of any reader, in KiB.
const MEMORY: u64 = 512 << 10;
/// The disk space beyond twice the declared size: logs, an empty cache.
const SMALL: u64 = 2 << 20;
/// The time that no reader takes, even in a build without optimisation.
const TIME: Duration = Duration::from_secs(60);

/// A worst input.
struct Case {
    /// The reader, as docs/security.md names it.
    reader: &'static str,
    input: &'static str,
    /// Writes the input into a directory and returns the arguments of `lab`, which runs there.
    prepare: fn(&Path) -> Result<Vec<String>>,
    /// What the command prints: proof that the reader got as far as its limit.
    ends: &'static str,
    /// The size of the content that the input declares, in bytes.
    declared: u64,
}

/// What was measured of a command.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// The peak of its resident memory in KiB.
    peak: u64,
    said: String,
}

/// The environment variable with the command to be measured, in JSON.
const COMMAND: &str = "LAB_LIMITS_COMMAND";

/// Not a test of its own: a process that is small itself, so that the peak of its child is the child's.
#[test]
fn measuring_process() -> Result<()> {
    let Some(command) = std::env::var_os(COMMAND) else { return Ok(()) };
    let words: Vec<String> = serde_json::from_str(&command.to_string_lossy())?;
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(words).env_remove(COMMAND).output()?;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss().unsigned_abs();
    // In bytes on macOS (getrusage(2)).
    let peak = if cfg!(target_os = "macos") { peak >> 10 } else { peak };
    let said = said.chars().take(4000).collect();
    fs::write("measured.json", serde_json::to_vec(&Measured { peak, said })?)?;
    Ok(())
}

/// The disk space below a directory, in bytes.
fn occupied(directory: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// Runs a case. Returns the peaks of memory, in KiB, and of disk space beyond the input, in bytes.
fn measure(case: &Case) -> Result<(Measured, u64)> {
    let work = tempfile::tempdir()?;
    let words = (case.prepare)(work.path()).with_context(|| format!("prepare {}", case.input))?;
    let input = occupied(work.path());
    let temporary = work.path().join("tmp");
    fs::create_dir(&temporary)?;
    let mut measuring = Command::new(std::env::current_exe()?)
        .args(["--exact", "measuring_process", "--nocapture"])
        .current_dir(work.path())
        .env(COMMAND, serde_json::to_string(&words)?)
        .env("TMPDIR", &temporary)
        .env("HOME", &temporary)
        // No reader needs a program, and a compiler would be measured with it.
        .env("PATH", &temporary)
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let (started, mut disk) = (Instant::now(), 0);
    let status = loop {
        disk = disk.max(occupied(work.path()).saturating_sub(input));
        if let Some(status) = measuring.try_wait()? {
            break status;
        }
        if started.elapsed() > TIME {
            measuring.kill()?;
            anyhow::bail!("{}, {}: not read within {TIME:?}", case.reader, case.input);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(status.success(), "{}, {}: {status}", case.reader, case.input);
    let measured = serde_json::from_slice(&fs::read(work.path().join("measured.json"))?)?;
    Ok((measured, disk))
}

#[test]
fn no_reader_needs_more_memory_or_disk_space_than_its_limit() -> Result<()> {
    let (mut wrong, mut rows) = (Vec::new(), Vec::new());
    for case in images::CASES.iter().chain(texts::CASES) {
        let (Measured { peak, said }, disk) = measure(case)?;
        let of = format!("{}, {}", case.reader, case.input);
        if !said.contains(case.ends) {
            wrong.push(format!("{of}: \"{}\" is not in: {said}", case.ends));
        }
        if said.contains("panicked") {
            wrong.push(format!("{of}: {said}"));
        }
        if peak > MEMORY {
            wrong.push(format!("{of}: {} MiB of memory", peak >> 10));
        }
        if disk > 2 * case.declared + SMALL {
            wrong.push(format!("{of}: {} MiB on disk, {} declared", disk >> 20, case.declared >> 20));
        }
        rows.push(format!("| {} | {} | {} MiB | {} MiB |", case.reader, case.input, peak >> 10, disk >> 20));
    }
    println!("| reader | worst input | memory | disk |\n| --- | --- | --- | --- |\n{}", rows.join("\n"));
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A file with a text.
fn put(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, bytes)?)
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
