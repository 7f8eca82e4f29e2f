//! The success criteria for a role-based pair of images, each with evidence from a run.
//!
//! Source: the success criteria of the decision for role-based images (ADR-004) of the images' users.

use std::fmt;

use lab_model::events::Outcome;
use serde::Serialize;

use super::{
    role_guide::RoleGuide,
    summary::{CheckResult, ScenarioSummary, Summary},
};

/// The four scenarios, by name.
const SCENARIOS: [&str; 4] =
    ["compute-only-cluster", "mixed-role-cluster", "tailscale-routing-test", "extension-isolation"];

/// Criteria that depend on checks: the sentence, and the scenario checks that must have passed.
const SHOWN: [(&str, &[(&str, &str)]); 3] = [
    (
        "compute nodes reach Ready without Tailscale",
        &[(SCENARIOS[0], "layers-green"), (SCENARIOS[0], "no-tailscale")],
    ),
    (
        "a gateway joins the cluster and routes the tailnet",
        &[(SCENARIOS[2], "layers-green"), (SCENARIOS[2], "tailnet-routing")],
    ),
    (
        "a mixed cluster shows WebAssembly and networking",
        &[(SCENARIOS[1], "wasm"), (SCENARIOS[1], "roles"), (SCENARIOS[0], "pod-network")],
    ),
];

/// A criterion and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Criterion {
    pub text: &'static str,
    /// Whether the run meets the requirement.
    pub holds: bool,
    /// The reason: one sentence for each observation.
    pub evidence: Vec<String>,
}

impl Criterion {
    /// All criteria with the results of a run. A criterion without executed checks does not hold.
    pub fn all(summary: &Summary) -> Vec<Self> {
        let mut criteria: Vec<_> =
            SHOWN.iter().map(|(text, checks)| Self::shown(summary, text, checks)).collect();
        criteria.push(Self::guided(summary));
        let seen: Vec<_> = SCENARIOS.iter().map(|name| (*name, scenario(summary, name))).collect();
        criteria.push(Self {
            text: "tests cover every formation scenario",
            holds: seen.iter().all(|(_, scenario)| {
                scenario.is_some_and(|scenario| matches!(scenario.outcome, Some(Outcome::Passed)))
            }),
            evidence: seen.iter().map(|(name, scenario)| of_scenario(name, *scenario)).collect(),
        });
        criteria
    }

    /// The criteria for which all scenarios ran. The other criteria are unknown, not violated.
    pub fn of_what_was_run(summary: &Summary) -> Vec<Self> {
        let ran = |name: &str| scenario(summary, name).is_some();
        // Older recordings do not contain the images of their nodes.
        let told = of_the_four(summary).flat_map(|scenario| &scenario.nodes).any(|node| node.image.is_some());
        let all = SCENARIOS.iter().all(|name| ran(name));
        let shown = SHOWN.iter().map(|(_, checks)| checks.iter().all(|(name, _)| ran(name)));
        let wanted: Vec<bool> = shown.chain([told, all]).collect();
        Self::all(summary).into_iter().zip(wanted).filter_map(|(one, wanted)| wanted.then_some(one)).collect()
    }

    /// Whether each node has a role and an image as in the guide's table.
    fn guided(summary: &Summary) -> Self {
        let text = "the documentation guides the choice of roles";
        match RoleGuide::embedded() {
            Ok(guide) => {
                let compared = guide.compare(of_the_four(summary));
                let holds = !compared.differs && !compared.evidence.is_empty();
                Self { text, holds, evidence: compared.evidence }
            }
            Err(problem) => {
                Self { text, holds: false, evidence: vec![format!("docs/role-guide.md: {problem}")] }
            }
        }
    }

    fn shown(summary: &Summary, text: &'static str, checks: &[(&str, &str)]) -> Self {
        let results: Vec<_> =
            checks.iter().map(|(name, id)| (*name, *id, check(summary, name, id))).collect();
        Self {
            text,
            holds: results.iter().all(|(_, _, result)| result.is_some_and(|result| result.outcome.passed())),
            evidence: results.iter().map(|(name, id, result)| of_check(name, id, *result)).collect(),
        }
    }
}

/// The executed scenarios of the four.
fn of_the_four(summary: &Summary) -> impl Iterator<Item = &ScenarioSummary> {
    summary.scenarios.iter().filter(|scenario| SCENARIOS.contains(&scenario.name.as_str()))
}

fn scenario<'a>(summary: &'a Summary, name: &str) -> Option<&'a ScenarioSummary> {
    summary.scenarios.iter().find(|scenario| scenario.name == name)
}

fn check<'a>(summary: &'a Summary, name: &str, id: &str) -> Option<&'a CheckResult> {
    scenario(summary, name)?.checks.iter().find(|check| check.check == id)
}

fn of_scenario(name: &str, scenario: Option<&ScenarioSummary>) -> String {
    match scenario.map(|scenario| &scenario.outcome) {
        None => format!("{name} was not run"),
        Some(None) => format!("{name} has not ended"),
        Some(Some(Outcome::Passed)) => format!("{name} passed"),
        Some(Some(Outcome::Failed { cause } | Outcome::NotRun { cause })) => format!("{name}: {cause}"),
    }
}

fn of_check(name: &str, id: &str, result: Option<&CheckResult>) -> String {
    match result.map(|result| &result.outcome) {
        None => format!("{name}, {id}: this check was not reached"),
        Some(Outcome::Passed) => {
            let evidence = result.and_then(|result| result.evidence.last());
            format!("{name}, {id}: {}", evidence.map_or("passed", String::as_str))
        }
        Some(Outcome::Failed { cause } | Outcome::NotRun { cause }) => format!("{name}, {id}: {cause}"),
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.holds { "✅" } else { "❌" }, self.text)?;
        self.evidence.iter().try_for_each(|line| write!(f, "\n     {line}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lab_model::{
        events::{Event, EventKind, PlannedImage},
        node::{Kind, Role},
    };

    fn summary(kinds: Vec<EventKind>) -> Summary {
        let event = |(seq, kind)| Event { seq, at: Duration::from_secs(seq), kind };
        let events: Vec<_> = (0..).zip(kinds).map(event).collect();
        Summary::of(&events)
    }

    fn ran(scenario: &str, checks: &[&str], outcome: Outcome) -> Vec<EventKind> {
        let mut kinds = vec![
            EventKind::ScenarioStarted { scenario: scenario.into(), question: String::new() },
            compute_node(Some(&["spin"])),
        ];
        for check in checks {
            let (check, title) = ((*check).to_owned(), String::new());
            kinds.push(EventKind::CheckStarted { check: check.clone(), title: title.clone() });
            let evidence = vec![format!("saw {check}")];
            kinds.push(EventKind::CheckFinished { check, title, outcome: outcome.clone(), evidence });
        }
        kinds.push(EventKind::ScenarioFinished { scenario: scenario.into(), outcome });
        kinds
    }

    /// A node with the role compute, with the extensions of its image if known.
    fn compute_node(extensions: Option<&[&str]>) -> EventKind {
        let extensions = extensions.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        EventKind::NodePlanned {
            node: "worker-1".parse().expect("name"),
            kind: Kind::Worker,
            role: Role::new("compute").expect("role"),
            address: [10, 5, 0, 2].into(),
            image: extensions.map(|extensions| PlannedImage { source: "compute".into(), extensions }),
        }
    }

    #[test]
    fn the_choice_of_roles_is_judged_by_the_nodes_of_the_run() {
        let began = EventKind::ScenarioStarted { scenario: SCENARIOS[0].into(), question: String::new() };
        let all = |image| Criterion::all(&summary(vec![began.clone(), compute_node(image)]));
        assert!(all(Some(&["spin"]))[3].holds);
        let wrong = &all(Some(&["tailscale"]))[3];
        assert!(!wrong.holds && wrong.evidence[0].contains("an image without tailscale"), "{wrong:?}");
        // Without nodes there is no result.
        assert!(!Criterion::all(&summary(vec![began.clone()]))[3].holds);
        // Missing data in an older recording does not count as a violation.
        let older = summary(vec![began.clone(), compute_node(None)]);
        assert!(Criterion::of_what_was_run(&older).iter().all(|one| one.text != wrong.text));
    }

    #[test]
    fn a_criterion_whose_scenarios_were_not_run_is_not_told() {
        let one = ran(SCENARIOS[0], &["layers-green", "no-tailscale"], Outcome::Passed);
        let told: Vec<_> =
            Criterion::of_what_was_run(&summary(one)).into_iter().map(|one| one.text).collect();
        assert_eq!(told, [SHOWN[0].0, "the documentation guides the choice of roles"]);
        let other = ran("another", &["layers-green"], Outcome::Passed);
        assert_eq!(Criterion::of_what_was_run(&summary(other)), []);
    }

    #[test]
    fn a_criterion_holds_by_what_was_seen_and_only_then() {
        let passed = || Outcome::Passed;
        let runs = [
            ran(SCENARIOS[0], &["layers-green", "no-tailscale", "pod-network"], passed()),
            ran(SCENARIOS[1], &["roles", "wasm"], passed()),
            ran(SCENARIOS[2], &["layers-green", "tailnet-routing"], passed()),
            ran(SCENARIOS[3], &["roles"], passed()),
        ];
        let all = Criterion::all(&summary(runs.concat()));
        assert!(all.iter().all(|criterion| criterion.holds), "{all:?}");
        assert_eq!(all[1].evidence[1], "tailscale-routing-test, tailnet-routing: saw tailnet-routing");
        // One run fewer, and one failed run.
        let broken =
            ran(SCENARIOS[2], &["layers-green", "tailnet-routing"], Outcome::Failed { cause: "cut".into() });
        let all = Criterion::all(&summary([runs[0].clone(), broken].concat()));
        let holds: Vec<_> = all.iter().map(|criterion| criterion.holds).collect();
        assert_eq!(holds, [true, false, false, true, false]);
        assert_eq!(all[1].evidence[1], "tailscale-routing-test, tailnet-routing: cut");
        assert_eq!(all[4].evidence[1], "mixed-role-cluster was not run");
    }
}
