//! `lab report badge`: the verdict on a run as a small picture, or as data for shields.io.

use std::path::{Path, PathBuf};

use clap::Args;
use lab_model::{ExitCode, files::replace_file};
use lab_report::{Badge as Drawn, InvalidVerdict, Verdict};

use super::{Failed, places::RunRoot, tell};

/// Write a badge with the verdict on a recorded run.
///
/// A file that ends in .svg is a picture. One that ends in .json has the form of an endpoint badge of shields.io. The
/// badge is green only if the run has passed.
#[derive(Args)]
pub struct Badge {
    /// Directory of a run, the beginning of its name, or a recording [default: the newest run]
    #[arg(value_name = "RUN", conflicts_with = "verdict")]
    run: Option<PathBuf>,
    /// File to write, .svg or .json; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    out: Vec<PathBuf>,
    /// Text on the left
    #[arg(long, value_name = "TEXT", default_value = "lab")]
    label: String,
    /// Verdict of a CI job, in place of a run: a job whose input was refused has no run
    #[arg(long, value_name = "VERDICT")]
    verdict: Option<String>,
    #[command(flatten)]
    run_root: RunRoot,
}

/// What a file contains.
#[derive(Clone, Copy)]
enum Form {
    Picture,
    Data,
}

impl Badge {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let forms = self.out.iter().map(|file| form(file)).collect::<Result<Vec<_>, _>>()?;
        let badge = Drawn::new(&self.label, self.verdict()?);
        for (file, form) in self.out.iter().zip(forms) {
            let text = match form {
                Form::Picture => badge.svg(),
                Form::Data => badge.json(),
            };
            replace_file(file, text.as_bytes()).map_err(|error| {
                Failed::new(ExitCode::BadInput, format!("write {}: {error}", file.display()))
            })?;
        }
        Ok(ExitCode::Passed)
    }

    fn verdict(&self) -> Result<Verdict, Failed> {
        if let Some(word) = &self.verdict {
            return match word.as_str() {
                // A step that did not run has no output.
                "" => Ok(Verdict::Broken),
                word => word.parse().map_err(|error: InvalidVerdict| Failed::new(ExitCode::BadInput, error)),
            };
        }
        let verdict = Verdict::of(&self.run_root.recording(self.run.as_deref())?);
        tell!("verdict: {verdict}");
        Ok(verdict)
    }
}

fn form(file: &Path) -> Result<Form, Failed> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Form::Picture),
        Some("json") => Ok(Form::Data),
        _ => {
            let why = format!("{} is no badge; its name must end in .svg or .json", file.display());
            Err(Failed::new(ExitCode::BadInput, why))
        }
    }
}
