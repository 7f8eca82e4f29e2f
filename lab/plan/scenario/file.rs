//! Converts a scenario file to a `Scenario`, and defines the order of the steps.

use std::{io, path::Path, time::Duration};

use lab_model::{
    Diagnostic, InvalidFile, Size,
    diagnostic::{from_yaml, yaml_options},
    events::Planned,
    network::Link,
    node::NodeName,
};
use serde::Serialize;
use serde_saphyr::Spanned;

use super::{
    check::{CheckDefinition, CheckSpec, PlannedCheck},
    check_entry::{ReadEntry, read_entry},
    expectation::Expectation,
    lower_captures::lower_captures,
    lower_checks::{lower_checks, lower_expectation, lower_faults},
    lower_cluster::lower_cluster,
    lowering::Lowering,
    raw::RawScenario,
};
use crate::{
    cluster::{Budgets, ClusterSpec, Fault, SpecWarning},
    scenario::Start,
};

/// An error for an invalid scenario file.
pub type ScenarioError = InvalidFile;

/// A scenario: the cluster, injected faults, checks and the expected result. It is plain data. The reader
/// accesses the host only for patch files. `C` is the trait object type of the checks.
#[derive(Debug, Serialize)]
#[serde(bound = "C: PlannedCheck")]
pub struct Scenario<C: ?Sized> {
    /// Name, usable as a file name.
    pub name: String,
    /// Display name.
    pub title: String,
    /// The question that the scenario answers.
    pub question: String,
    pub cluster: ClusterSpec,
    /// Whether the scenario accepts a saved cluster.
    pub start: Start,
    /// Links with frame capture. The capture begins before the first machine starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<Link>,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// An override of the host's available memory, to simulate a small host.
    pub host_memory: Option<Size>,
    /// The checks, in order.
    pub checks: Vec<CheckSpec<C>>,
    /// The expected result.
    pub expect: Expectation,
    /// Time limits of each step, without the host's speed factor.
    pub budgets: Budgets,
    /// Warnings about probable mistakes, one sentence each.
    pub warnings: Vec<String>,
}

impl<C: PlannedCheck + ?Sized> Scenario<C> {
    /// Parses the text of a scenario file. `file` is its name in messages. Relative paths start at
    /// `directory`. `read` returns the text of a patch file. `checks` is the table of available checks. A
    /// scenario without checks gets the first check in the table.
    ///
    /// # Errors
    /// Returns all problems of the file. Never panics, for any input.
    pub fn parse(
        file: &str,
        text: &str,
        directory: &Path,
        read: &dyn Fn(&Path) -> io::Result<String>,
        checks: &[CheckDefinition<C>],
    ) -> Result<Self, ScenarioError> {
        let wrong_form = |problem: Diagnostic| ScenarioError::new(file, text, vec![problem]);
        let options = yaml_options();
        let raw: RawScenario = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| wrong_form(from_yaml(&error)))?;
        let raw = raw.with_default_check(checks.first().map(|definition| definition.name));
        let entries: Vec<_> = (0..)
            .zip(&raw.checks)
            .map(|(number, entry)| read_entry(text, number, entry, checks))
            .collect::<Result<_, _>>()
            .map_err(|problem: Box<Diagnostic>| wrong_form(*problem))?;
        let mut lowering = Lowering { file, directory, read, problems: Vec::new() };
        let scenario = lowering.scenario(&raw, entries);
        match scenario {
            Some(scenario) if lowering.problems.is_empty() => Ok(scenario),
            _ => Err(ScenarioError::new(file, text, lowering.problems)),
        }
    }
}

impl<C: PlannedCheck + ?Sized> Scenario<C> {
    /// Returns the checks that run programs on this host. The scenario may be a stranger's, so that the user must allow
    /// them.
    pub fn running_programs(&self) -> impl Iterator<Item = &CheckSpec<C>> {
        self.checks.iter().filter(|spec| spec.check.runs_programs())
    }
}

impl<C: ?Sized> Scenario<C> {
    /// Returns the plan information about the scenario for reports.
    pub fn planned(&self) -> Planned {
        let checks = self.checks.iter().map(|check| check.id.clone()).collect();
        Planned { scenario: self.name.clone(), checks }
    }
}

/// The maximum budget of a step in a scenario.
const LONGEST_BUDGET: Duration = Duration::from_secs(24 * 3600);

impl Lowering<'_> {
    /// Returns `None` only after it has reported a problem.
    fn scenario<C: PlannedCheck + ?Sized>(
        &mut self,
        raw: &RawScenario,
        entries: Vec<ReadEntry<C>>,
    ) -> Option<Scenario<C>> {
        if let Err(error) = NodeName::new(raw.name.value.as_str()) {
            let message = error.to_string().replace("is not a node name", "is not a scenario name");
            self.report(Diagnostic::at(&raw.name, message));
        }
        let (mut cluster, warnings) = lower_cluster(self, raw)?;
        let budgets = self.budgets(raw);
        let (faults, host_memory) = lower_faults(self, raw, &cluster);
        let checks = lower_checks(self, raw, entries, &cluster);
        for node in &mut cluster.nodes {
            node.may_be_held = checks.iter().any(|spec| spec.check.held_node() == Some(&node.name));
        }
        let title = raw.title.clone().unwrap_or_else(|| sentence(&raw.name.value));
        Some(Scenario {
            name: raw.name.value.clone(),
            question: raw.question.clone().unwrap_or_else(|| title.clone()),
            title,
            start: raw.start,
            captures: lower_captures(self, raw, &cluster),
            faults,
            host_memory,
            checks,
            expect: lower_expectation(self, raw, &cluster),
            budgets,
            warnings: warnings.iter().map(SpecWarning::to_string).collect(),
            cluster,
        })
    }

    fn budgets(&mut self, raw: &RawScenario) -> Budgets {
        let mut budgets = Budgets::default();
        let raw = &raw.budgets;
        for (given, budget) in [
            (&raw.boot, &mut budgets.boot),
            (&raw.maintenance, &mut budgets.maintenance),
            (&raw.call, &mut budgets.call),
            (&raw.secure_api, &mut budgets.secure_api),
            (&raw.kubernetes_api, &mut budgets.kubernetes_api),
            (&raw.ready, &mut budgets.ready),
            (&raw.answer, &mut budgets.answer),
        ] {
            let Some(limit) = given.as_ref().and_then(|seconds| self.seconds(seconds)) else { continue };
            *budget = limit;
        }
        budgets
    }

    /// Returns a time limit, or reports a problem.
    pub(super) fn seconds(&mut self, seconds: &Spanned<f64>) -> Option<Duration> {
        if seconds.value > 0.0 && seconds.value <= LONGEST_BUDGET.as_secs_f64() {
            return Some(Duration::from_secs_f64(seconds.value));
        }
        let message = format!("a budget of {} s is not a time that a step can take", seconds.value);
        let longest = LONGEST_BUDGET.as_secs();
        let help = format!("give seconds on the reference host, more than 0 and at most {longest}");
        self.report(Diagnostic::at(seconds, message).help(help));
        None
    }
}

/// Converts `compute-only-cluster` to "Compute only cluster".
fn sentence(name: &str) -> String {
    let mut text = name.replace('-', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
