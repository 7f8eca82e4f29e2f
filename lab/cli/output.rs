//! What commands print, and words that they read alike.

use lab::session::Session;
use lab_model::{ExitCode, Source};
use lab_oci::images::Reference;

use super::failed::Failed;

/// Prints a line. A closed pipe, as after `head`, is not an error.
pub(super) fn print_line(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    print_line(text);
    Ok(())
}

/// Adds to the summary of the job, if this process runs in a job of GitHub Actions.
pub(super) fn add_to_step_summary(markdown: &str) -> Result<(), Failed> {
    use std::io::Write;
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(markdown.as_bytes())).map_err(|error| {
        Failed::new(ExitCode::Internal, format!("write to the file of $GITHUB_STEP_SUMMARY: {error}"))
    })
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
    eprintln!("run directory: {}", session.path().display());
}
