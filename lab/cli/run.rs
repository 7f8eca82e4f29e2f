//! `lab run`: scenarios and their verdicts.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lab::{
    scenario::{self, Scenario},
    session::{Preview, Session, SessionOptions},
};
use lab_model::{
    Ending, ExitCode,
    events::{Happening, Outcome, Shard, ShardNumber},
};
use lab_report::{Display, HTML, Recording, Report, Summary};
use lab_vm::host::WhenShort;

use super::{
    Failed, Failures, Guests, add_to_step_summary, print_json, say_where, tailnet::TailnetOptions,
    unless_ended,
};

/// How long a run waits for memory that other labs hold.
const MEMORY_PATIENCE: Duration = Duration::from_secs(600);

/// Run scenarios and give a verdict.
#[derive(Args)]
pub struct Run {
    /// Scenario files
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Run one part of the scenarios, e.g. 2/4, and leave the others to other hosts; see `lab merge`
    #[arg(long, value_name = "NUMBER/COUNT")]
    shard: Option<ShardNumber>,
    /// Print the plan; nothing is booted, measured or opened
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Form every cluster, though one like it was saved; nothing is saved either
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    tailnet: TailnetOptions,
    #[command(flatten)]
    failures: Failures,
    #[command(flatten)]
    guests: Guests,
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let (scenarios, shard) = picked(loaded(&self.scenarios)?, self.shard);
        let title = match &shard {
            Some(shard) if scenarios.is_empty() => format!("no scenario is in shard {}", shard.number),
            _ => names(&scenarios).join("+"),
        };
        let mut options = self.guests.options(&title, Display::for_stderr());
        options.tailnet = self.tailnet.real()?;
        options.cold = self.cold;
        options.shard = shard;
        options.on_failure = self.failures.into();
        if self.dry_run {
            return self.print_plans(Preview::open(options).await?, &scenarios).await;
        }
        let (_recording, summary, code) = carried_out(options, &scenarios).await?;
        if self.json {
            print_json(&summary)?;
        } else {
            println!("\n{summary}");
        }
        Ok(code)
    }

    async fn print_plans(&self, preview: Preview, scenarios: &[Scenario]) -> Result<ExitCode, Failed> {
        for scenario in scenarios {
            let (plan, notes) = preview.plan(scenario::request(scenario, WhenShort::Refuse)).await?;
            for note in notes {
                eprintln!("{}: {note}", scenario.name);
            }
            let text = if self.json {
                serde_json::to_string_pretty(&plan).map_err(|error| error.to_string())
            } else {
                serde_yaml::to_string(&plan).map_err(|error| error.to_string())
            };
            println!("{}", text.map_err(|error| Failed::new(ExitCode::Internal, error))?);
        }
        Ok(ExitCode::Passed)
    }
}

fn names(scenarios: &[Scenario]) -> Vec<String> {
    scenarios.iter().map(|scenario| scenario.name.clone()).collect()
}

/// The scenarios of a shard, and what its recording says of the whole run.
fn picked(scenarios: Vec<Scenario>, number: Option<ShardNumber>) -> (Vec<Scenario>, Option<Shard>) {
    let Some(number) = number else {
        return (scenarios, None);
    };
    let of_scenarios = names(&scenarios);
    let mut picks = number.picks(&of_scenarios).into_iter().peekable();
    let own = (0..).zip(scenarios).filter(|(at, _)| picks.next_if_eq(at).is_some());
    (own.map(|(_, scenario)| scenario).collect(), Some(Shard { number, of_scenarios }))
}

/// All files, read before anything starts: a mistake in the last one costs no time.
pub(super) fn loaded(files: &[PathBuf]) -> Result<Vec<Scenario>, Failed> {
    let load = |path: &PathBuf| {
        scenario::load(path)
            .map_err(|error| Failed::new(ExitCode::BadInput, format!("{:?}", miette::Report::new(error))))
    };
    files.iter().map(load).collect()
}

/// Runs scenarios in a session of their own and returns its recording, and what that tells.
pub(super) async fn carried_out(
    mut options: SessionOptions,
    scenarios: &[Scenario],
) -> Result<(Recording, Summary, ExitCode), Failed> {
    options.several = scenarios.len() > 1;
    let on_screen = options.display == Display::Screen;
    let session = Session::open(options).await?;
    if !on_screen {
        say_where(&session);
    }
    session
        .recorder()
        .record(Happening::Agenda { scenarios: scenarios.iter().map(Scenario::planned).collect() });
    let done = unless_ended(&session, verdicts(&session, scenarios)).await;
    let (outcome, ending, code) = done.unwrap_or_else(|| {
        (Outcome::NotRun { cause: "interrupted".into() }, Ending::Interrupted, ExitCode::Interrupted)
    });
    let (directory, signatures) = (session.path().to_owned(), session.signatures().clone());
    session.close(outcome, ending).await?;
    let recording = Recording::of_run(&directory).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    let report = Report::of(&recording, &signatures);
    add_to_step_summary(&report.markdown())?;
    eprintln!("report: {}", directory.join(HTML).display());
    Ok((recording, report.summary, code))
}

async fn verdicts(session: &Session, scenarios: &[Scenario]) -> (Outcome, Ending, ExitCode) {
    let (mut failures, mut host_unable) = (Vec::new(), false);
    for scenario in scenarios {
        let verdict = scenario::run(scenario, session, WhenShort::WaitUpTo(MEMORY_PATIENCE)).await;
        if let Some(cause) = verdict.outcome.cause_of(&scenario.name) {
            failures.push(cause);
            host_unable |= verdict.host_unable;
        }
        if session.has_paused() {
            break;
        }
    }
    let outcome = Outcome::over(&failures);
    let (ending, code) = match (outcome.passed(), host_unable) {
        (true, _) => (Ending::Passed, ExitCode::Passed),
        (false, true) => (Ending::Failed, ExitCode::HostUnable),
        (false, false) => (Ending::Failed, ExitCode::VerdictFailed),
    };
    (outcome, ending, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_of_the_scenarios_have_each_of_them_once() {
        let files: Vec<PathBuf> =
            ["04-extension-isolation", "01-compute-only-cluster", "03-tailscale-routing-test"]
                .map(|name| PathBuf::from(format!("scenarios/{name}.yaml")))
                .into();
        let all = || loaded(&files).map_err(|failed| failed.message).expect("scenarios");
        let part = |text: &str| {
            let (scenarios, shard) = picked(all(), Some(text.parse().expect("a part")));
            assert_eq!(shard.map(|shard| shard.of_scenarios), Some(names(&all())));
            names(&scenarios)
        };
        assert_eq!(part("1/2"), ["compute-only-cluster", "tailscale-routing-test"].map(str::to_owned));
        assert_eq!(part("2/2"), ["extension-isolation"].map(str::to_owned));
        assert!(part("4/4").is_empty());
        let (scenarios, shard) = picked(all(), None);
        assert_eq!((names(&scenarios), shard), (names(&all()), None));
    }
}
