//! `lab vet`: finds checks that pass without a look.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lab::vet::{Finding, SubjectError, Vetted, subjects, vet};
use lab_model::ExitCode;

use super::{Failed, print_json, say};

/// Find own checks that pass without a look: run them on clusters that are broken on purpose, and read their scripts.
///
/// No VM starts. The broken clusters are: no API server, no Ready node, no extension, and no tools on PATH.
#[derive(Args)]
pub struct Vet {
    /// Scripts (*.sh), chainsaw tests, scenario files with own checks, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run the checks, on this host and with your rights; without this option, their scripts are only read
    #[arg(long)]
    allow_run: bool,
    /// Time for one check on one broken cluster, in seconds; a check that does not end has not passed
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Directory from which scenario files may read scripts and manifests, besides their own; repeatable
    #[arg(long = "allow-path", value_name = "DIR")]
    allowed_paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Vet {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let limit = Duration::from_secs(self.limit);
        let subjects = subjects(&self.files, &self.allowed_paths, limit).map_err(|error| match error {
            SubjectError::Scenario(error) => {
                Failed::rendered(ExitCode::BadInput, format!("{:?}", miette::Report::new(error)))
            }
            error => Failed::new(ExitCode::BadInput, lab_model::words::chain(&error)),
        })?;
        let mut all = Vec::new();
        for subject in &subjects {
            let vetted = vet(subject, self.allow_run, limit).await;
            let vetted = vetted.map_err(|error| Failed::new(ExitCode::Internal, error))?;
            if !self.json {
                print(&vetted, self.allow_run);
            }
            all.push(vetted);
        }
        let suspicious = all.iter().filter(|vetted| !vetted.findings.is_empty()).count();
        if self.json {
            print_json(&all)?;
        } else {
            say!("{}", summary(all.len(), suspicious, self.allow_run));
        }
        Ok(if suspicious == 0 { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}

fn print(vetted: &Vetted, ran: bool) {
    let sign = if vetted.findings.is_empty() { "✅" } else { "❌" };
    say!("{sign} {}", vetted.name);
    let passes = |finding: &&Finding| matches!(finding, Finding::Passes { .. });
    for finding in vetted.findings.iter().filter(|finding| !passes(finding)) {
        say!("   {finding}");
    }
    for finding in vetted.findings.iter().filter(passes) {
        say!("   {finding}: it did not look");
    }
    if ran {
        for (broken, cause) in &vetted.fails {
            say!("   fails {broken}: {cause}");
        }
    }
    for note in &vetted.notes {
        say!("   note: {note}");
    }
}

fn summary(all: usize, suspicious: usize, ran: bool) -> String {
    let how = if ran { "" } else { "; they were read and not run (--allow-run runs them)" };
    match suspicious {
        0 => format!("✅ {all} checks, none passes without a look{how}"),
        _ => format!("❌ {all} checks, {suspicious} of them may pass without a look{how}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_is_said() {
        assert_eq!(summary(4, 0, true), "✅ 4 checks, none passes without a look");
        assert!(summary(4, 1, false).ends_with("(--allow-run runs them)"));
    }
}
