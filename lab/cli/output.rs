//! What commands print, and words that they read alike.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::Path,
    sync::{LazyLock, OnceLock},
};

use lab::session::Session;
use lab_model::{ExitCode, Source, json_shown, shown};
use lab_oci::images::Reference;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::watch;

use super::failed::Failed;

/// Prints a formatted line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::print_line(format_args!($($text)*)) };
}
/// Prints a formatted line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::output::tell_line(format_args!($($text)*)) };
}
pub(super) use {say, tell};

const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// The first error of standard output other than a closed pipe.
static OUTPUT_ERROR: OnceLock<String> = OnceLock::new();

/// Prints a line. Text of guests, images and files in it becomes visible. A closed pipe, as after `head`, is not an
/// error; [`output_error`] returns others.
pub(super) fn print_line(line: impl std::fmt::Display) {
    print_as_is(&shown(&line.to_string()));
}

/// Prints a line on standard error, like [`print_line`].
pub(super) fn tell_line(line: impl std::fmt::Display) {
    tell_as_is(&shown(&line.to_string()));
}

/// Prints a line on standard error that is already safe, such as a report with colours.
pub(super) fn tell_as_is(line: &str) {
    // There is no other place for an error.
    let _ = writeln!(io::stderr(), "{line}");
}

fn print_as_is(line: &str) {
    print_text(&format!("{line}\n"));
}

/// Prints text that is already safe, such as a report.
pub(super) fn print_text(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = OUTPUT_ERROR.set(error.to_string());
        }
        _ => {}
    }
}

/// Returns the reason why output of this command is lost, as on a full disk.
pub(super) fn output_error() -> Option<&'static str> {
    OUTPUT_ERROR.get().map(String::as_str)
}

/// Resolves when standard output is a pipe or a terminal and its reader has gone, as after `head -2`. Does not resolve
/// for a file. Watches from the first call on.
pub(super) async fn reader_gone() {
    static GONE: LazyLock<watch::Receiver<bool>> = LazyLock::new(|| {
        let (sender, gone) = watch::channel(false);
        // A thread, because a runtime can wait only for what does not block, and writers expect that standard output
        // does. It ends with the process.
        std::thread::spawn(move || {
            // Errors and the end of the reader are always reported, other events are not asked for.
            let out = io::stdout();
            let mut asked = [PollFd::new(out.as_fd(), PollFlags::empty())];
            while let Err(Errno::EINTR) = poll(&mut asked, PollTimeout::NONE) {}
            if asked[0].any() == Some(true) {
                sender.send_replace(true);
            }
        });
        gone
    });
    if GONE.clone().wait_for(|gone| *gone).await.is_err() {
        std::future::pending().await
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    print_as_is(&json_shown(&text));
    Ok(())
}

/// Keeps GitHub Actions from reading workflow commands in the output of this process: guests and images write some of
/// it. Dropping this value lets it read them again.
pub(super) struct WithoutCommands {
    token: String,
}

impl WithoutCommands {
    /// Stops workflow commands if this process runs in a job of GitHub Actions.
    pub(super) fn in_a_job() -> Option<Self> {
        variable_of_job("GITHUB_ACTIONS")?;
        let mut bytes = [0_u8; 16];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        tell_as_is(&format!("::stop-commands::{token}"));
        Some(Self { token })
    }
}

impl Drop for WithoutCommands {
    fn drop(&mut self) {
        tell_as_is(&format!("::{}::", self.token));
    }
}

/// Adds to the summary of the job, if this process runs in a job of GitHub Actions.
pub(super) fn add_to_step_summary(markdown: &str) -> Result<(), Failed> {
    match variable_of_job(STEP_SUMMARY) {
        Some(path) => append_to_file_of(STEP_SUMMARY, Path::new(&path), markdown),
        None => Ok(()),
    }
}

/// Returns a variable that a job of GitHub Actions sets.
pub(super) fn variable_of_job(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Appends to the file that the variable `name` of a job names.
pub(super) fn append_to_file_of(name: &str, path: &Path, text: &str) -> Result<(), Failed> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failed::new(ExitCode::Internal, format!("write to the file of ${name}: {error}")))
}

/// A reference in a registry; `why` says why a path is not accepted.
pub(super) fn reference(text: &str, why: &str) -> Result<Box<Reference>, Failed> {
    match Source::parse(text)? {
        Source::Registry(reference) => Ok(reference),
        Source::Path(_) => Err(Failed::new(ExitCode::BadInput, format!("{text} is a path; {why}"))),
    }
}

/// Prints the path of the run directory.
pub(super) fn say_where(session: &Session) {
    tell!("run directory: {}", session.path().display());
}
