//! `lab report` and `lab history`: recorded runs, told again.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use lab_model::{ExitCode, files::replace_file};
use lab_report::{History as Past, Recording, RecordingError, Report as Told, Signatures};

use super::{Failed, print_json};

/// The name by which a format goes to standard output.
const STANDARD_OUTPUT: &str = "-";

/// Tell a recorded run again: as text, Markdown, JUnit XML, trace or HTML page.
///
/// Each option names a file to write, or - for standard output. Without any, the text is printed.
#[derive(Args)]
pub struct Report {
    /// A run's directory, the beginning of its name, or a recording [default: the newest run]
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// The page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// JUnit XML, for CI systems
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// A trace for Perfetto or Chrome
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Markdown, e.g. for the summary of a CI step
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The TEST RESULTS block
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Known failures of your own, besides the lab's and those in lab-signatures.yaml; more than once
    #[arg(long, value_name = "FILE")]
    signatures: Vec<PathBuf>,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    run_root: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let wanted = [&self.html, &self.junit, &self.trace, &self.markdown, &self.text];
        if wanted.iter().filter(|file| file.as_deref().is_some_and(is_standard_output)).count() > 1 {
            let why = "only one format can go to standard output; give the others a file";
            return Err(Failed::new(ExitCode::BadInput, why));
        }
        let signatures = Signatures::with_files(&self.signatures)
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let recording = match &self.run {
            Some(run) => Recording::find(run, &self.run_root)?,
            None => Recording::newest(&self.run_root)?,
        };
        let report = Told::of(&recording, &signatures);
        if wanted.iter().all(|file| file.is_none()) {
            return put(Path::new(STANDARD_OUTPUT), &report.text());
        }
        let makers: [fn(&Told) -> String; 5] =
            [Told::html, Told::junit, Told::trace, Told::markdown, Told::text];
        for (file, make) in wanted.into_iter().zip(makers) {
            if let Some(file) = file {
                put(file, &make(&report))?;
            }
        }
        Ok(ExitCode::Passed)
    }
}

fn is_standard_output(file: &Path) -> bool {
    file == Path::new(STANDARD_OUTPUT)
}

/// Writes a report. A reader that has seen enough, as `head` has, is no error.
fn put(file: &Path, text: &str) -> Result<ExitCode, Failed> {
    if is_standard_output(file) {
        let _ = std::io::stdout().write_all(text.as_bytes());
        return Ok(ExitCode::Passed);
    }
    replace_file(file, text.as_bytes())
        .map_err(|error| Failed::new(ExitCode::BadInput, format!("write {}: {error}", file.display())))?;
    Ok(ExitCode::Passed)
}

/// What earlier runs of each scenario came to, with medians.
#[derive(Args)]
pub struct History {
    /// Only this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    run_root: PathBuf,
}

impl History {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let past = Past::read(&self.run_root).map_err(|error| {
            let message = format!("read the history in {}: {error}", self.run_root.display());
            Failed::new(ExitCode::Internal, message)
        })?;
        let past = match &self.scenario {
            Some(name) => past.of_scenario(name),
            None => past,
        };
        if self.json {
            print_json(&past)?;
        } else {
            print!("{past}");
        }
        Ok(ExitCode::Passed)
    }
}

impl From<RecordingError> for Failed {
    fn from(error: RecordingError) -> Self {
        Self::new(ExitCode::BadInput, error)
    }
}
