//! JUnit XML for CI systems: one suite per scenario, one case per check, and one case for the
//! verdict.

use std::{path::Path, time::Duration};

use lab_model::{events::Outcome, is_hidden};
use quick_junit::{NonSuccessKind, Property, Report as Xml, TestCase, TestCaseStatus, TestSuite};

use super::{
    report::Report,
    summary::{CheckResult, ScenarioSummary},
};

/// The test case for the verdict itself. A suite fails exactly if the verdict is red. This includes
/// runs in which the cluster did not form and no check ran, and excludes checks that are expected to
/// fail.
const VERDICT: &str = "verdict";

impl Report {
    /// Formats the report as JUnit XML in the form that Jenkins and GitLab read.
    pub fn junit(&self) -> String {
        let title = if self.summary.title.is_empty() { "lab" } else { &self.summary.title };
        let mut xml = Xml::new(without_attachments(title));
        xml.set_time(seconds(self.summary.seconds));
        for scenario in &self.summary.scenarios {
            xml.add_test_suite(self.suite(scenario));
        }
        // The run was interrupted between two scenarios, or had no scenarios.
        if !self.summary.passed() && xml.failures + xml.errors == 0 {
            let outcome = self
                .summary
                .outcome
                .clone()
                .unwrap_or_else(|| Outcome::NotRun { cause: "the run did not end by itself".into() });
            let mut suite = TestSuite::new("run");
            suite.add_test_case(verdict("run", &outcome));
            xml.add_test_suite(suite);
        }
        // The serializer accepts every text of the report.
        xml.to_string().unwrap_or_default()
    }

    fn suite(&self, scenario: &ScenarioSummary) -> TestSuite {
        let name = &without_attachments(self.summary.name_of(scenario));
        let outcome = self.summary.verdict_on(scenario);
        let mut suite = TestSuite::new(name.as_str());
        suite.set_time(seconds(scenario.seconds));
        if let Some(started) = self.summary.started {
            suite.extra.insert("timestamp".into(), started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
        }
        for (key, value) in &self.environment.facts {
            suite.add_property(Property::new(*key, without_attachments(value)));
        }
        for check in &scenario.checks {
            let mut case = case(name, check, outcome.passed());
            let mut out = vec![without_attachments(&check.title)];
            out.extend(check.evidence.iter().map(|line| without_attachments(line)));
            if matches!(check.outcome, Outcome::Failed { .. }) {
                out.extend(self.attachments(scenario, |path| path.ends_with("bundle/README.txt")));
            }
            case.set_system_out(out.join("\n"));
            suite.add_test_case(case);
        }
        let mut last = verdict(name, &outcome);
        let known = self.summary.known.iter().filter(|known| known.scenario == scenario.name);
        let mut out: Vec<_> = known.map(|known| without_attachments(&known.to_string())).collect();
        out.extend(self.attachments(scenario, |path| {
            path.ends_with("bundle/README.txt")
                || path.file_name().is_some_and(|name| name == "console.log")
                || path.extension().is_some_and(|ending| ending == "pcapng")
        }));
        last.set_system_out(out.join("\n"));
        suite.add_test_case(last);
        suite
    }

    /// Files of the run, in the attachment format of Jenkins and GitLab. The paths are relative to
    /// the working directory, as both require.
    fn attachments(&self, scenario: &ScenarioSummary, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let here = std::env::current_dir().ok();
        let several = self.summary.scenarios.len() > 1;
        self.artefacts
            .iter()
            .filter(|path| !several || path.starts_with(&scenario.name))
            // The bundle contains copies of the consoles.
            .filter(|path| wanted(path) && !path.to_string_lossy().contains("bundle/nodes/"))
            .map(|path| directory.join(path))
            .map(|path| {
                here.as_ref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(&path).to_owned()
            })
            // A name with a line break or a bracket could end this attachment and begin another.
            .filter(|path| !path.to_string_lossy().contains(|c: char| is_hidden(c) || "[]|".contains(c)))
            .map(|path| format!("[[ATTACHMENT|{}]]", path.display()))
            .collect()
    }
}

/// A failed check in a passed scenario was expected to fail.
fn case(suite: &str, check: &CheckResult, scenario_passed: bool) -> TestCase {
    let status = match &check.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed { .. } if scenario_passed => TestCaseStatus::success(),
        Outcome::Failed { cause } => failed(NonSuccessKind::Failure, cause),
        Outcome::NotRun { cause } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(without_attachments(cause));
            status
        }
    };
    let mut case = TestCase::new(without_attachments(check.check.as_str()), status);
    case.set_classname(suite).set_time(seconds(check.seconds));
    if let (Outcome::Failed { cause }, true) = (&check.outcome, scenario_passed) {
        case.set_system_err(without_attachments(&format!("failed as expected: {cause}")));
    }
    case
}

fn verdict(suite: &str, outcome: &Outcome) -> TestCase {
    let status = match outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed { cause } => failed(NonSuccessKind::Failure, cause),
        Outcome::NotRun { cause } => failed(NonSuccessKind::Error, cause),
    };
    let mut case = TestCase::new(VERDICT, status);
    case.set_classname(suite);
    case
}

fn failed(kind: NonSuccessKind, cause: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let cause = without_attachments(cause);
    status.set_message(cause.as_str()).set_description(cause);
    status
}

/// Keeps foreign text from naming a file of the host as an attachment, which Jenkins and GitLab would publish.
fn without_attachments(text: &str) -> String {
    text.replace("[[ATTACHMENT", "[ [ATTACHMENT")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
