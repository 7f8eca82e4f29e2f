//! The results of earlier runs. `history.jsonl` in the run root has one line per scenario, and
//! remains when a run's directory is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write},
    path::Path,
};

use lab_model::{events::Outcome, files::FileLock};
use serde::{Deserialize, Serialize};

use super::{
    recording::Recording,
    summary::{ScenarioSummary, Summary},
};

/// The history file in the run root.
pub const HISTORY: &str = "history.jsonl";
/// The minimum number of earlier runs for a median.
const ENOUGH: usize = 3;
/// The ratio to the median from which a run gets a note.
const REGRESSION: f64 = 1.2;
/// The title prefix of runs of the project's own tests. Several of these tests share a host, so they
/// form a separate series.
const TEST: &str = "test-";

/// The result, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Passed,
    Failed,
    /// Not run, or interrupted.
    NotRun,
    /// The lab was killed during the run.
    Died,
}

impl Ended {
    fn of(outcome: Option<&Outcome>) -> Self {
        match outcome {
            Some(Outcome::Passed) => Self::Passed,
            Some(Outcome::Failed { .. }) => Self::Failed,
            Some(Outcome::NotRun { .. }) => Self::NotRun,
            None => Self::Died,
        }
    }

    /// The label for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not run",
            Self::Died => "died",
        }
    }
}

/// One scenario of an earlier run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastRun {
    pub run: String,
    /// The title of the run.
    pub title: String,
    /// Start time.
    pub at: jiff::Timestamp,
    pub scenario: String,
    /// The accelerator of the guests.
    pub accelerator: String,
    /// The factor by which the host was slower than the reference host.
    pub speed_factor: f64,
    /// The number of nodes.
    pub nodes: usize,
    pub ended: Ended,
    /// Seconds from the first power-on until all nodes were green, if all became green.
    pub ready_seconds: Option<f64>,
    /// The duration of the scenario in seconds.
    pub seconds: f64,
    /// Seconds of each step on the slowest node, by step label.
    pub steps: BTreeMap<String, f64>,
    /// The results of the checks, by check ID.
    pub checks: BTreeMap<String, Ended>,
}

impl PastRun {
    /// One entry per scenario of a run.
    pub fn of(summary: &Summary) -> Vec<Self> {
        let scenarios = summary.scenarios.iter().filter(|scenario| !scenario.name.is_empty());
        scenarios.map(|scenario| Self::of_scenario(summary, scenario)).collect()
    }

    fn of_scenario(summary: &Summary, scenario: &ScenarioSummary) -> Self {
        let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
        let steps = scenario.longest_steps().into_iter();
        let checks = scenario.checks.iter();
        // A scenario without an own outcome did not die if its run was interrupted.
        let outcome = scenario.outcome.as_ref().or(summary.outcome.as_ref());
        Self {
            run: summary.run.clone(),
            title: summary.title.clone(),
            at: summary.started.unwrap_or_default(),
            scenario: scenario.name.clone(),
            accelerator: summary.accelerator.clone(),
            speed_factor: (summary.speed_factor * 100.0).round() / 100.0,
            nodes: scenario.nodes.len(),
            ended: Ended::of(outcome),
            ready_seconds: scenario.all_ready_after().map(tenths),
            seconds: tenths(scenario.seconds),
            steps: steps.map(|(step, seconds)| (step.label().to_owned(), tenths(seconds))).collect(),
            checks: checks.map(|check| (check.check.clone(), Ended::of(Some(&check.outcome)))).collect(),
        }
    }

    /// Seconds until all nodes are green, scaled to the reference host.
    fn scaled(&self) -> Option<f64> {
        Some(self.ready_seconds? / if self.speed_factor > 0.0 { self.speed_factor } else { 1.0 })
    }

    fn is_test(&self) -> bool {
        self.title.starts_with(TEST)
    }

    /// Whether two runs are comparable: same scenario, same size, same conditions.
    fn compares_with(&self, other: &Self) -> bool {
        let key = |run: &Self| (run.scenario.clone(), run.accelerator.clone(), run.nodes, run.is_test());
        key(self) == key(other)
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.at, &self.run) < (other.at, &other.run)
    }
}

/// All earlier runs in a run root, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    pub runs: Vec<PastRun>,
}

impl History {
    /// Reads `history.jsonl`, and the recordings of runs that are missing in it.
    ///
    /// # Errors
    /// Fails if the file exists but cannot be read. Damaged lines are skipped.
    pub fn read(root: &Path) -> io::Result<Self> {
        let path = root.join(HISTORY);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut runs: Vec<PastRun> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let known: BTreeSet<_> = runs.iter().map(|run| run.run.clone()).collect();
        for directory in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name =
                directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A run without a result is running or dead; only the next run can distinguish the two.
            if !known.contains(&name)
                && directory.join("result.json").is_file()
                && let Ok(recording) = Recording::of_run(&directory)
            {
                runs.extend(PastRun::of(&Summary::of(&recording.events)));
            }
        }
        runs.sort_by(|a, b| (a.at, &a.run).cmp(&(b.at, &b.run)));
        Ok(Self { runs })
    }

    /// Appends the scenarios of a finished run.
    ///
    /// # Errors
    /// Fails if the file cannot be locked or written.
    pub fn append(root: &Path, summary: &Summary) -> io::Result<()> {
        let mut lines = Vec::new();
        for run in PastRun::of(summary) {
            serde_json::to_writer(&mut lines, &run)?;
            lines.push(b'\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        let path = root.join(HISTORY);
        let _lock = FileLock::acquire(&path)?;
        // Starts a new line, so that an incomplete line of an earlier writer stays separate.
        if fs::read(&path)?.last().is_some_and(|last| *last != b'\n') {
            lines.insert(0, b'\n');
        }
        fs::OpenOptions::new().append(true).open(&path)?.write_all(&lines)
    }

    /// Keeps only the runs of one scenario.
    pub fn of_scenario(mut self, scenario: &str) -> Self {
        self.runs.retain(|run| run.scenario == scenario);
        self
    }

    /// The last comparable run before `run`.
    pub fn previous(&self, run: &PastRun) -> Option<&PastRun> {
        self.runs.iter().rev().find(|other| other.is_before(run) && other.compares_with(run))
    }

    /// A sentence if `run` took much longer until all nodes were green than earlier green runs.
    pub fn regression(&self, run: &PastRun) -> Option<String> {
        let before = self
            .runs
            .iter()
            .filter(|other| other.ended == Ended::Passed && other.is_before(run) && other.compares_with(run));
        let before: Vec<_> = before.filter_map(PastRun::scaled).collect();
        let (count, now, usual) = (before.len(), run.scaled()?, median(before)?);
        (count >= ENOUGH && now > usual * REGRESSION).then(|| {
            format!(
                "slower than usual: {} took {now:.1} s until all nodes were green, on the reference host, and the \
                 median of the {count} green runs before it is {usual:.1} s (+{:.0} %)",
                run.scenario,
                (now / usual - 1.0) * 100.0
            )
        })
    }

    /// Groups comparable runs, ordered by the first run of each group.
    fn series(&self) -> Vec<Vec<&PastRun>> {
        let mut series: Vec<Vec<&PastRun>> = Vec::new();
        for run in &self.runs {
            match series.iter_mut().find(|known| known[0].compares_with(run)) {
                Some(known) => known.push(run),
                None => series.push(vec![run]),
            }
        }
        series
    }
}

/// The median; for an even number of values, the mean of the two middle values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

impl fmt::Display for History {
    /// One table per series, with its medians and the note on its last run, if any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs.is_empty() {
            return writeln!(f, "no scenario has been run");
        }
        for (index, series) in self.series().into_iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let first = series[0];
            let tests = if first.is_test() { ", as a test" } else { "" };
            writeln!(f, "{}, {} nodes, {}{tests}", first.scenario, first.nodes, first.accelerator)?;
            writeln!(
                f,
                "  {:<22}{:<10}{:>14}{:>12}{:>14}",
                "begun", "ended", "all green, s", "total, s", "speed factor"
            )?;
            for run in &series {
                let ready =
                    run.ready_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"));
                let begun = run.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                writeln!(
                    f,
                    "  {begun:<22}{:<10}{ready:>14}{:>12.1}{:>14.2}",
                    run.ended.label(),
                    run.seconds,
                    run.speed_factor
                )?;
            }
            let green = || series.iter().filter(|run| run.ended == Ended::Passed);
            let medians = (
                median(green().filter_map(|run| run.ready_seconds).collect()),
                median(green().map(|run| run.seconds).collect()),
                median(green().filter_map(|run| run.scaled()).collect()),
            );
            if let (Some(ready), Some(total), Some(scaled)) = medians {
                writeln!(
                    f,
                    "  {:<22}{:<10}{ready:>14.1}{total:>12.1}",
                    "median of the green",
                    green().count()
                )?;
                writeln!(f, "  on the reference host all nodes are green after {scaled:.1} s")?;
            }
            if let Some(note) = series.last().and_then(|last| self.regression(last)) {
                writeln!(f, "  {note}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: i64, ready: f64, speed_factor: f64) -> PastRun {
        PastRun {
            run: format!("compute-only-{number}"),
            title: "compute-only-cluster".into(),
            at: jiff::Timestamp::from_second(1_700_000_000 + number * 3600).expect("time"),
            scenario: "compute-only-cluster".into(),
            accelerator: "tcg".into(),
            speed_factor,
            nodes: 3,
            ended: Ended::Passed,
            ready_seconds: Some(ready),
            seconds: ready + 60.0,
            steps: BTreeMap::new(),
            checks: BTreeMap::new(),
        }
    }

    #[test]
    fn a_run_that_is_slower_than_the_median_is_noted_and_a_slow_host_is_not() {
        let mut history = History { runs: vec![run(1, 50.0, 1.0), run(2, 58.0, 1.0), run(3, 52.0, 1.0)] };
        let slow = |ready, factor| history.regression(&run(4, ready, factor));
        assert!(slow(70.0, 1.0).expect("note").contains("+35 %"));
        assert_eq!(slow(61.0, 1.0), None, "within a fifth");
        assert_eq!(slow(70.0, 1.4), None, "the host is slower, not the cluster");
        history.runs.pop();
        assert_eq!(history.regression(&run(4, 700.0, 1.0)), None, "two runs are no measure");
    }

    #[test]
    fn only_what_compares_is_compared() {
        let mut other = run(3, 9.0, 1.0);
        other.nodes = 1;
        let mut test = run(4, 9.0, 1.0);
        test.title = "test-compute-only-cluster".into();
        let history =
            History { runs: vec![run(1, 50.0, 1.0), run(2, 51.0, 1.0), other, test, run(6, 1.0, 1.0)] };
        assert_eq!(history.previous(&run(5, 60.0, 1.0)), Some(&run(2, 51.0, 1.0)));
        assert_eq!(history.previous(&run(1, 50.0, 1.0)), None);
    }

    #[test]
    fn what_was_appended_is_read_and_damaged_lines_are_left_out() {
        let root = tempfile::tempdir().expect("tempdir");
        let summary = |number: i64| Summary {
            run: format!("r-{number}"),
            started: Some(jiff::Timestamp::from_second(number).expect("time")),
            scenarios: vec![ScenarioSummary { name: "s".into(), ..ScenarioSummary::default() }],
            outcome: Some(Outcome::Passed),
            ..Summary::default()
        };
        History::append(root.path(), &summary(2)).expect("append");
        fs::OpenOptions::new()
            .append(true)
            .open(root.path().join(HISTORY))
            .and_then(|mut file| file.write_all(b"{\"run\": \"torn"))
            .expect("tear");
        History::append(root.path(), &summary(1)).expect("append");
        // A run without scenarios leaves no line.
        History::append(root.path(), &Summary::default()).expect("append");
        let names: Vec<_> =
            History::read(root.path()).expect("read").runs.into_iter().map(|run| run.run).collect();
        assert_eq!(names, ["r-1", "r-2"]);
        assert_eq!(History::read(&root.path().join("none")).expect("read"), History::default());
    }

    #[test]
    fn the_table_has_medians_and_the_note() {
        let mut failed = run(4, 0.0, 1.1);
        (failed.ended, failed.ready_seconds) = (Ended::Failed, None);
        let runs = vec![run(1, 50.0, 1.0), run(2, 58.0, 1.1), run(3, 52.0, 1.0), failed, run(5, 90.0, 1.0)];
        insta::assert_snapshot!(History { runs }.to_string());
        insta::assert_snapshot!(History::default().to_string(), @"no scenario has been run");
    }
}
