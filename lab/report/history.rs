//! The results of earlier runs. `history.jsonl` in the run root has one line per scenario, and
//! remains when a run's directory is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use lab_model::{events::Outcome, files::FileLock, visible};
use serde::{Deserialize, Serialize};

use super::{
    planned::planned,
    recording::Recording,
    summary::{ScenarioSummary, Summary},
};

/// The history file in the run root.
pub const HISTORY: &str = "history.jsonl";
/// The minimum number of earlier runs for a median.
const ENOUGH: usize = 3;
/// The ratio to the median from which a run gets a note.
const REGRESSION: f64 = 1.2;
/// The most that is read of the file, in bytes, from its end: some ten thousand runs.
const LARGEST: u64 = 16 << 20;
/// The longest text of an entry, in characters.
const LONGEST_NAME: usize = 200;
/// More than any duration in a history, seconds. Larger ones are from a damaged file.
const LONGEST_SECONDS: f64 = 1e7;
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
    /// The digests of the images that the nodes booted, by role. Older entries have none.
    #[serde(default)]
    pub images: BTreeMap<String, BTreeSet<String>>,
}

impl PastRun {
    /// One entry per scenario of a run. The plans in the directory of the run name the images.
    pub fn of(summary: &Summary, directory: Option<&Path>) -> Vec<Self> {
        let scenarios = summary.scenarios.iter().filter(|scenario| !scenario.name.is_empty());
        scenarios
            .map(|scenario| {
                let mut run = Self::of_scenario(summary, scenario);
                let (images, _) =
                    directory.map(|directory| planned(directory, &[&scenario.name])).unwrap_or_default();
                for image in images.into_iter().filter(|image| !image.digest.is_empty()) {
                    run.images.entry(image.role).or_default().insert(image.digest);
                }
                run
            })
            .collect()
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
            images: BTreeMap::new(),
        }
    }

    /// The entry with texts that show every character, and durations that can be drawn: a history may come from anybody.
    fn made_visible(self) -> Self {
        let text = |text: &String| visible(text, LONGEST_NAME);
        let bounded = |seconds: f64| seconds.clamp(0.0, LONGEST_SECONDS);
        Self {
            run: text(&self.run),
            title: text(&self.title),
            scenario: text(&self.scenario),
            accelerator: text(&self.accelerator),
            speed_factor: bounded(self.speed_factor),
            ready_seconds: self.ready_seconds.map(bounded),
            seconds: bounded(self.seconds),
            steps: self.steps.iter().map(|(step, seconds)| (text(step), bounded(*seconds))).collect(),
            checks: self.checks.iter().map(|(check, ended)| (text(check), *ended)).collect(),
            ..self
        }
    }

    /// Seconds until all nodes are green, scaled to the reference host.
    pub(super) fn scaled(&self) -> Option<f64> {
        Some(self.ready_seconds? / if self.speed_factor > 0.0 { self.speed_factor } else { 1.0 })
    }

    pub(super) fn is_test(&self) -> bool {
        self.title.starts_with(TEST)
    }

    /// Whether two runs are comparable: same scenario, same size, same conditions.
    fn compares_with(&self, other: &Self) -> bool {
        self.conditions() == other.conditions()
    }

    fn conditions(&self) -> (&str, &str, usize, bool) {
        (&self.scenario, &self.accelerator, self.nodes, self.is_test())
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
        let text = match end_of(&root.join(HISTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut runs: Vec<PastRun> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .map(PastRun::made_visible)
            .collect();
        let known: BTreeSet<_> = runs.iter().map(|run| run.run.clone()).collect();
        for directory in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name =
                directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A run without a result is running or dead; only the next run can distinguish the two.
            if !known.contains(&name)
                && directory.join("result.json").is_file()
                && let Ok(recording) = Recording::of_run(&directory)
            {
                runs.extend(PastRun::of(&Summary::of(&recording.events), Some(&directory)));
            }
        }
        runs.sort_by(|a, b| (a.at, &a.run).cmp(&(b.at, &b.run)));
        Ok(Self { runs })
    }

    /// Appends the scenarios of a finished run.
    ///
    /// # Errors
    /// Fails if the file cannot be locked or written.
    pub fn append(root: &Path, runs: &[PastRun]) -> io::Result<()> {
        let mut lines = Vec::new();
        for run in runs {
            serde_json::to_writer(&mut lines, run)?;
            lines.push(b'\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        let path = root.join(HISTORY);
        let _lock = FileLock::acquire(&path)?;
        // Starts a new line, so that an incomplete line of an earlier writer stays separate.
        if !ends_with_line(&path)? {
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
    pub(super) fn series(&self) -> Vec<Vec<&PastRun>> {
        let (mut series, mut places) = (Vec::<Vec<&PastRun>>::new(), BTreeMap::new());
        for run in &self.runs {
            let place = *places.entry(run.conditions()).or_insert(series.len());
            if place == series.len() {
                series.push(Vec::new());
            }
            series[place].push(run);
        }
        series
    }
}

/// Whether a file is empty or its last line is complete.
fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let mut last = [0];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        return Ok(last == *b"\n");
    }
    Ok(true)
}

/// The complete lines in the last [`LARGEST`] bytes of a file.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let before = file.metadata()?.len().saturating_sub(LARGEST);
    file.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    let cut = bytes.iter().position(|byte| *byte == b'\n').filter(|_| before > 0).map_or(0, |at| at + 1);
    Ok(String::from_utf8_lossy(&bytes[cut..]).into_owned())
}

/// The median; for an even number of values, the mean of the two middle values.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// A green run of a cluster with three nodes, `number` hours after a fixed time.
#[cfg(test)]
pub(super) fn example(number: i64, ready: f64, speed_factor: f64) -> PastRun {
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
        images: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{example as run, *};

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
        let append =
            |summary: &Summary| History::append(root.path(), &PastRun::of(summary, None)).expect("append");
        append(&summary(2));
        fs::OpenOptions::new()
            .append(true)
            .open(root.path().join(HISTORY))
            .and_then(|mut file| file.write_all(b"{\"run\": \"torn"))
            .expect("tear");
        append(&summary(1));
        // A run without scenarios leaves no line.
        append(&Summary::default());
        let names: Vec<_> =
            History::read(root.path()).expect("read").runs.into_iter().map(|run| run.run).collect();
        assert_eq!(names, ["r-1", "r-2"]);
        assert_eq!(History::read(&root.path().join("none")).expect("read"), History::default());
    }
}
