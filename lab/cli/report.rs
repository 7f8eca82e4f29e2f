//! `lab report`: reports of recorded runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lab_model::{
    ExitCode,
    files::{directory_of, replace_file},
};
use lab_report::{History as Past, RecordingError, Report, ReportLinks, Signatures};

use super::{
    Failed, badge::Badge, merge::Merge, open::Open, places::RunRoot, print_json, print_line, print_text,
};

/// The name by which a format goes to standard output.
const STANDARD_OUTPUT: &str = "-";

/// Reports of recorded runs.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Reports {
    /// Open the HTML page of the newest run in the browser; the same as `lab report open`
    #[arg(long)]
    open: bool,
    #[command(subcommand)]
    command: Option<ReportCommand>,
}

#[derive(Subcommand)]
enum ReportCommand {
    /// Show a recorded run as text, Markdown, JUnit XML, trace or HTML page
    Show(Show),
    /// Open the HTML page of a recorded run in the browser
    Open(Open),
    /// List the results of earlier runs of each scenario, or write a page with their trends
    History(History),
    /// Write a badge with the verdict on a recorded run, as SVG or for shields.io
    Badge(Badge),
    /// Merge the recordings of shards into one recording with one verdict
    Merge(Merge),
}

impl Reports {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self.command {
            Some(ReportCommand::Show(show)) => show.run(),
            Some(ReportCommand::Open(open)) => open.run(),
            Some(ReportCommand::History(history)) => history.run(),
            Some(ReportCommand::Badge(badge)) => badge.run(),
            Some(ReportCommand::Merge(merge)) => merge.run(),
            // Without any argument, the parser has shown the help.
            None => Open::newest().run(),
        }
    }
}

/// Show a recorded run as text, Markdown, JUnit XML, trace or HTML page.
///
/// Each option names a file to write, or - for standard output. Without these options, the text is printed.
#[derive(Args)]
pub struct Show {
    /// Directory of a run, the beginning of its name, or a recording [default: the newest run]
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// HTML page, complete in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// JUnit XML, for CI systems
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Trace for Perfetto or Chrome
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Markdown, e.g. for the summary of a CI job
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// TEST RESULTS block
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// File with known failures, in addition to the built-in ones and lab-signatures.yaml; repeatable
    #[arg(long, value_name = "FILE")]
    signatures: Vec<PathBuf>,
    #[command(flatten)]
    run_root: RunRoot,
}

impl Show {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let wanted = [&self.html, &self.junit, &self.trace, &self.markdown, &self.text];
        if wanted.iter().filter(|file| file.as_deref().is_some_and(is_standard_output)).count() > 1 {
            let why = "only one format can go to standard output; give the others a file";
            return Err(Failed::new(ExitCode::BadInput, why));
        }
        let signatures = Signatures::with_files(&self.signatures)
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let recording = self.run_root.recording(self.run.as_deref())?;
        let report = Report::of(&recording, &signatures);
        if wanted.iter().all(|file| file.is_none()) {
            return put(Path::new(STANDARD_OUTPUT), &report.text());
        }
        let makers: [fn(&Report) -> String; 5] =
            [Report::html, Report::junit, Report::trace, Report::markdown, Report::text];
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

/// Writes a report.
fn put(file: &Path, text: &str) -> Result<ExitCode, Failed> {
    if is_standard_output(file) {
        print_text(text);
        return Ok(ExitCode::Passed);
    }
    replace_file(file, text.as_bytes())
        .map_err(|error| Failed::new(ExitCode::BadInput, format!("write {}: {error}", file.display())))?;
    Ok(ExitCode::Passed)
}

/// List the results of earlier runs of each scenario, with medians.
#[derive(Args)]
pub struct History {
    /// Name of one scenario [default: all]
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Write an HTML page with trends and flaky checks, or - for standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "html")]
    json: bool,
    #[command(flatten)]
    run_root: RunRoot,
}

impl History {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let runs = self.run_root.path();
        let past = Past::read(&runs).map_err(|error| {
            let message = format!("read the history in {}: {error}", runs.display());
            Failed::new(ExitCode::Internal, message)
        })?;
        let past = match &self.scenario {
            Some(name) => past.of_scenario(name),
            None => past,
        };
        if let Some(file) = &self.html {
            let beside = if is_standard_output(file) { Path::new(".") } else { directory_of(file) };
            return put(file, &past.html(&ReportLinks::of(&past, &runs, beside)));
        }
        if self.json {
            print_json(&past)?;
        } else {
            print_line(past.to_string().trim_end());
        }
        Ok(ExitCode::Passed)
    }
}

impl From<RecordingError> for Failed {
    fn from(error: RecordingError) -> Self {
        Self::new(ExitCode::BadInput, error)
    }
}
