//! `lab run`: scenarios and their verdicts.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lab::{
    events::Outcome,
    host::{Ending, ExitCode, WhenShort},
    report::{Display, HTML, Recording, Report, Summary},
    scenario::Scenario,
    session::{Session, SessionOptions},
};

use super::{
    Failed, Guests, add_to_step_summary, asked_to_end, print_json, say_where, tailnet::TailnetOptions,
};

/// How long a run waits for memory that other labs hold.
const MEMORY_PATIENCE: Duration = Duration::from_secs(600);

/// Run scenarios and give a verdict.
#[derive(Args)]
pub struct Run {
    /// Scenario files
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Print the plan and boot nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tailnet: TailnetOptions,
    #[command(flatten)]
    guests: Guests,
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let scenarios = loaded(&self.scenarios)?;
        let title = scenarios.iter().map(|scenario| scenario.name.as_str()).collect::<Vec<_>>().join("+");
        let display = if self.dry_run { Display::Quiet } else { Display::for_stderr() };
        let mut options = self.guests.options(&title, display);
        options.tailnet = self.tailnet.real()?;
        if self.dry_run {
            return self.print_plans(Session::open(options).await?, &scenarios).await;
        }
        let (summary, code) = carried_out(options, &scenarios).await?;
        if self.json {
            print_json(&summary)?;
        } else {
            println!("\n{summary}");
        }
        Ok(code)
    }

    async fn print_plans(&self, session: Session, scenarios: &[Scenario]) -> Result<ExitCode, Failed> {
        for scenario in scenarios {
            let (plan, _registry) = session.plan(scenario.request(WhenShort::Refuse)).await?;
            let text = if self.json {
                serde_json::to_string_pretty(&plan).map_err(|error| error.to_string())
            } else {
                serde_yaml::to_string(&plan).map_err(|error| error.to_string())
            };
            println!("{}", text.map_err(|error| Failed::new(ExitCode::Internal, error))?);
        }
        session.close(Outcome::Passed, Ending::Passed).await?;
        Ok(ExitCode::Passed)
    }
}

/// All files, read before anything starts: a mistake in the last one costs no time.
pub(super) fn loaded(files: &[PathBuf]) -> Result<Vec<Scenario>, Failed> {
    let load = |path: &PathBuf| {
        Scenario::load(path)
            .map_err(|error| Failed::new(ExitCode::BadInput, format!("{:?}", miette::Report::new(error))))
    };
    files.iter().map(load).collect()
}

/// Runs scenarios in a session of their own and returns what its recording tells.
pub(super) async fn carried_out(
    mut options: SessionOptions,
    scenarios: &[Scenario],
) -> Result<(Summary, ExitCode), Failed> {
    options.several = scenarios.len() > 1;
    let session = Session::open(options).await?;
    say_where(&session);
    let (outcome, ending, code) = tokio::select! {
        result = verdicts(&session, scenarios) => result,
        () = asked_to_end() => {
            (Outcome::NotRun { cause: "interrupted".into() }, Ending::Interrupted, ExitCode::Interrupted)
        }
    };
    let (directory, signatures) = (session.path().to_owned(), session.signatures().clone());
    session.close(outcome, ending).await?;
    let recording = Recording::of_run(&directory).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    let report = Report::of(&recording, &signatures);
    add_to_step_summary(&report.markdown())?;
    eprintln!("report: {}", directory.join(HTML).display());
    Ok((report.summary, code))
}

async fn verdicts(session: &Session, scenarios: &[Scenario]) -> (Outcome, Ending, ExitCode) {
    let (mut failures, mut host_unable) = (Vec::new(), false);
    for scenario in scenarios {
        let verdict = scenario.run(session, WhenShort::WaitUpTo(MEMORY_PATIENCE)).await;
        if let Outcome::Failed { cause } | Outcome::NotRun { cause } = verdict.outcome {
            failures.push(format!("{}: {cause}", scenario.name));
            host_unable |= verdict.host_unable;
        }
    }
    if failures.is_empty() {
        (Outcome::Passed, Ending::Passed, ExitCode::Passed)
    } else {
        let code = if host_unable { ExitCode::HostUnable } else { ExitCode::VerdictFailed };
        (Outcome::Failed { cause: failures.join("; ") }, Ending::Failed, code)
    }
}
