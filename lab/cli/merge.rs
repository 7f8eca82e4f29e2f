//! `lab report merge`: one recording from the recordings of shards.

use std::path::PathBuf;

use clap::Args;
use lab_model::{ExitCode, events::Outcome};
use lab_report::{
    HTML, Recording, Report, Signatures,
    merge::{MergeError, MergedShard, ShardRecording, WriteError, merge},
};
use serde_json::json;

use super::{Failed, print_json, print_line, tell};

/// Merge the recordings of shards into one recording with one verdict.
#[derive(Args)]
pub struct Merge {
    /// Run directories of the shards that `lab run --shard` created, or their events.jsonl
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Directory for the merged recording; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the shards and the summary as JSON on standard output
    #[arg(long)]
    json: bool,
}

impl Merge {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let recordings = ShardRecording::read_all(&self.runs)?;
        let name = self.out.file_name().map_or_else(|| "merged".into(), |name| name.to_string_lossy());
        let merged = merge(&name, recordings)?;
        let written = merged.write(&self.out)?;
        let signatures =
            Signatures::with_files(&[]).map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let internal = |error: &dyn std::fmt::Display| Failed::new(ExitCode::Internal, error);
        let recording = Recording::of_run(&self.out).map_err(|error| internal(&error))?;
        let report = Report::of(&recording, &signatures);
        report.write(&self.out).map_err(|error| internal(&error))?;
        let summary = &report.summary;
        if self.json {
            print_json(&json!({ "shards": merged.shards, "summary": summary }))?;
        } else {
            merged.shards.iter().for_each(|shard| print_line(line(shard)));
            print_line(format_args!("\n{summary}"));
        }
        tell!("joined recording: {}\nreport: {}", written.display(), self.out.join(HTML).display());
        Ok(if merged.outcome.passed() { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}

/// One shard in one line.
fn line(shard: &MergedShard) -> String {
    let number = shard.shard.map_or_else(String::new, |number| format!("shard {number}, "));
    let scenarios =
        if shard.scenarios.is_empty() { "no scenario".to_owned() } else { shard.scenarios.join(", ") };
    let (mark, verdict) = match &shard.outcome {
        Some(Outcome::Passed) => ("✅", "passed"),
        Some(Outcome::Failed { .. }) => ("❌", "failed"),
        Some(Outcome::NotRun { .. }) => ("❌", "not run to its end"),
        None => ("❌", "broke off"),
    };
    format!("{mark} {}: {number}{scenarios}: {verdict}", shard.from)
}

impl From<MergeError> for Failed {
    fn from(error: MergeError) -> Self {
        Self::new(ExitCode::BadInput, error)
    }
}

impl From<WriteError> for Failed {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::Taken { .. } => ExitCode::BadInput,
            WriteError::File { .. } | WriteError::Result(_) => ExitCode::Internal,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_told_in_a_line() {
        let shard = MergedShard {
            from: "shards/1".into(),
            shard: "1/4".parse().ok(),
            scenarios: vec!["compute-only-cluster".into()],
            outcome: Some(Outcome::Passed),
            started_after: 0.0,
        };
        assert_eq!(line(&shard), "✅ shards/1: shard 1/4, compute-only-cluster: passed");
        let broken = MergedShard { shard: None, scenarios: Vec::new(), outcome: None, ..shard };
        assert_eq!(line(&broken), "❌ shards/1: no scenario: broke off");
    }
}
