//! `lab run`: scenarios and their verdicts.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use lab::{
    scenario::{self, Scenario},
    session::{Preview, Session, SessionOptions},
};
use lab_model::{
    Ending, ExitCode,
    events::{EventKind, Outcome, Shard, ShardNumber},
    files::replace_file,
};
use lab_report::{Display, HTML, Recording, Report, Summary};
use lab_vm::host::WhenShort;

use super::{
    Failed, Failures, Guests, add_to_step_summary, print_json, print_line,
    project::Project,
    say, say_where,
    scenarios::{self, BuiltIn},
    tailnet::TailnetOptions,
    tell, unless_ended,
};

/// How long a run waits for memory that other labs have reserved.
const MEMORY_PATIENCE: Duration = Duration::from_secs(600);

/// Run scenarios and report a verdict.
#[derive(Args)]
#[command(after_help = exit_codes())]
pub struct Run {
    /// Scenario files, or built-in scenarios by number or name, e.g. 01 or mixed-role
    #[arg(required_unless_present = "list", value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// List the built-in scenarios and exit
    #[arg(long, exclusive = true)]
    list: bool,
    /// Run one part of the scenarios, e.g. 2/4; other hosts run the other parts; see `lab report merge`
    #[arg(long, value_name = "NUMBER/COUNT")]
    shard: Option<ShardNumber>,
    /// Print the plan of each scenario and exit: configs, patches, images; starts no VM and opens no port
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as JSON on standard output; with --dry-run, print the plans as JSON instead of YAML
    #[arg(long)]
    json: bool,
    /// Form every cluster; do not restore saved clusters, and do not save clusters
    #[arg(long)]
    cold: bool,
    /// Let checks start programs on this host that the scenarios name (`run`, scripts of chainsaw tests), with your rights
    #[arg(long)]
    allow_run: bool,
    /// Run the negative controls instead: each scenario with each fault that its checks name in `failsWith`, expecting that
    /// these checks fail
    #[arg(long)]
    with_faults: bool,
    /// Write the path of the run directory to a file, for scripts
    #[arg(long, value_name = "FILE")]
    directory_file: Option<PathBuf>,
    #[command(flatten)]
    tailnet: TailnetOptions,
    #[command(flatten)]
    failures: Failures,
    #[command(flatten)]
    guests: Guests,
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        if self.list {
            return listed();
        }
        let mut scenarios = scenarios::load(&self.scenarios, &self.guests.allowed_paths)?;
        if self.with_faults {
            scenarios = controls(&scenarios)?;
        }
        let (scenarios, shard) = picked(scenarios, self.shard);
        let title = match &shard {
            Some(shard) if scenarios.is_empty() => format!("no scenario is in shard {}", shard.number),
            _ => names(&scenarios).join("+"),
        };
        if let Some(cause) = scenarios.iter().find_map(scenario::needs_permission)
            && !(self.allow_run || self.dry_run)
        {
            return Err(Failed::new(ExitCode::BadInput, cause));
        }
        let mut options = self.guests.options(&title, Display::for_stderr())?;
        Project::here()?.fill(&mut options)?;
        options.tailnet = self.tailnet.real()?;
        options.cold = self.cold;
        options.shard = shard;
        options.on_failure = self.failures.into();
        options.allow_run = self.allow_run;
        if self.dry_run {
            return self.print_plans(Preview::open(options).await?, &scenarios).await;
        }
        let (_recording, summary, code) =
            run_all(options, &scenarios, self.directory_file.as_deref()).await?;
        if self.json {
            print_json(&summary)?;
        } else {
            say!("\n{summary}");
        }
        Ok(code)
    }

    async fn print_plans(&self, preview: Preview, scenarios: &[Scenario]) -> Result<ExitCode, Failed> {
        for scenario in scenarios {
            let (plan, notes) = preview.plan(scenario::request(scenario, WhenShort::Refuse)).await?;
            for note in notes {
                tell!("{}: {note}", scenario.name);
            }
            let text = if self.json {
                serde_json::to_string_pretty(&plan).map_err(|error| error.to_string())
            } else {
                serde_yaml::to_string(&plan).map_err(|error| error.to_string())
            };
            say!("{}", text.map_err(|error| Failed::new(ExitCode::Internal, error))?);
        }
        Ok(ExitCode::Passed)
    }
}

/// The negative controls of the scenarios.
fn controls(scenarios: &[Scenario]) -> Result<Vec<Scenario>, Failed> {
    let controls: Vec<_> = scenarios.iter().flat_map(Scenario::controls).collect();
    if controls.is_empty() {
        let why = "no check of these scenarios names a fault in `failsWith`; docs/own-checks.md describes it";
        return Err(Failed::new(ExitCode::BadInput, why));
    }
    Ok(controls)
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

/// The exit codes, for the end of a help page.
pub(super) fn exit_codes() -> String {
    format!("Exit codes:\n{}", ExitCode::table())
}

fn listed() -> Result<ExitCode, Failed> {
    for built_in in BuiltIn::ALL {
        let scenario = built_in.scenario().map_err(|error| Failed::new(ExitCode::Internal, error))?;
        print_line(format_args!("{built_in:<26} {}", scenario.question));
    }
    Ok(ExitCode::Passed)
}

/// Runs scenarios in a new session. Returns the recording, its summary and the exit code.
pub(super) async fn run_all(
    mut options: SessionOptions,
    scenarios: &[Scenario],
    directory_file: Option<&Path>,
) -> Result<(Recording, Summary, ExitCode), Failed> {
    options.several = scenarios.len() > 1;
    let on_screen = options.display == Display::Screen;
    let session = Session::open(options).await?;
    if let Some(file) = directory_file {
        replace_file(file, session.path().as_os_str().as_encoded_bytes())
            .map_err(|error| Failed::new(ExitCode::Internal, format!("write {}: {error}", file.display())))?;
    }
    if !on_screen {
        say_where(&session);
    }
    session
        .recorder()
        .record(EventKind::Agenda { scenarios: scenarios.iter().map(Scenario::planned).collect() });
    let done = unless_ended(&session, verdicts(&session, scenarios)).await;
    let (outcome, ending, code) = done.unwrap_or_else(|| {
        (Outcome::NotRun { cause: "interrupted".into() }, Ending::Interrupted, ExitCode::Interrupted)
    });
    let (directory, signatures) = (session.path().to_owned(), session.signatures().clone());
    session.close(outcome, ending).await?;
    let recording = Recording::of_run(&directory).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    let report = Report::of(&recording, &signatures);
    add_to_step_summary(&report.markdown())?;
    tell!("report: {}", directory.join(HTML).display());
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
        (false, true) => (Ending::HostUnable, ExitCode::HostUnable),
        (false, false) => (Ending::Failed, ExitCode::VerdictFailed),
    };
    (outcome, ending, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_of_the_scenarios_have_each_of_them_once() {
        let files =
            ["04-extension-isolation", "01-compute-only-cluster", "scenarios/03-tailscale-routing-test.yaml"];
        let all = || scenarios::load(&files, &[]).map_err(|failed| failed.message).expect("scenarios");
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
