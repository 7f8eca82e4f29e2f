//! The expected result of a scenario: success, or failure for a specific reason.

use lab_model::{
    events::{Outcome, Step, TurnedAway},
    node::NodeName,
};
use serde::{Deserialize, Serialize};

/// The condition for a green verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// The cluster forms and every check passes.
    #[default]
    Passes,
    /// The scenario fails, and one failure matches all given fields.
    Fails {
        /// The failed step.
        step: Option<Step>,
        /// The failed node.
        node: Option<NodeName>,
        /// The identifier of the failed check, instead of a step.
        check: Option<String>,
        /// The reason that the cluster rejects the node.
        turned_away: Option<TurnedAway>,
        /// The cause contains each of these texts. The comparison ignores case.
        cause_contains: Vec<String>,
    },
    /// Each of these checks fails: a negative control of the checks. Scenario files do not contain this.
    ChecksFail {
        /// The identifiers of the checks.
        checks: Vec<String>,
    },
    /// The lab refuses the scenario before any machine starts.
    Refused {
        /// The cause contains each of these texts. The comparison ignores case.
        cause_contains: Vec<String>,
    },
}

/// A failure that occurred in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeenFailure {
    /// The lab refused the scenario before any machine started.
    Refused {
        /// The error message of the refusal.
        cause: String,
    },
    /// A step failed.
    Step {
        step: Step,
        /// The failed node. `None` means the cluster.
        node: Option<NodeName>,
        /// The reason that the cluster rejects the node, if that is the cause.
        turned_away: Option<TurnedAway>,
        cause: String,
    },
    /// A check failed.
    Check {
        /// The identifier of the check.
        check: String,
        cause: String,
    },
}

impl std::fmt::Display for SeenFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SeenFailure::Refused { cause } => write!(f, "refused before boot: {cause}"),
            SeenFailure::Step { step, node: Some(node), cause, .. } => {
                write!(f, "{node} failed at \"{}\": {cause}", step.label())
            }
            SeenFailure::Step { step, node: None, cause, .. } => {
                write!(f, "the cluster failed at \"{}\": {cause}", step.label())
            }
            SeenFailure::Check { check, cause } => write!(f, "check {check} failed: {cause}"),
        }
    }
}

impl Expectation {
    /// Returns the verdict of the scenario for all failures of a run. An unexpected failure does not
    /// change an expected verdict to red, because one fault often has several effects.
    pub fn judge(&self, seen: &[SeenFailure]) -> Outcome {
        let seen_text = || match seen {
            [] => "it passed".to_owned(),
            _ => seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; also "),
        };
        match self {
            Expectation::Passes if seen.is_empty() => Outcome::Passed,
            Expectation::Passes => Outcome::Failed { cause: seen_text() },
            Expectation::ChecksFail { checks } if checks.iter().all(|check| has_failed(check, seen)) => {
                Outcome::Passed
            }
            _ if seen.iter().any(|failure| self.matches(failure)) => Outcome::Passed,
            _ => Outcome::Failed { cause: format!("expected {self}, but {}", seen_text()) },
        }
    }

    fn matches(&self, seen: &SeenFailure) -> bool {
        match (self, seen) {
            (Expectation::Refused { cause_contains }, SeenFailure::Refused { cause }) => {
                holds_all(cause, cause_contains)
            }
            (
                Expectation::Fails { step, node, check: None, turned_away, cause_contains },
                SeenFailure::Step { step: seen_step, node: seen_node, turned_away: seen_why, cause },
            ) => {
                step.is_none_or(|step| step == *seen_step)
                    && node.as_ref().is_none_or(|node| Some(node) == seen_node.as_ref())
                    && (turned_away.is_none() || turned_away == seen_why)
                    && holds_all(cause, cause_contains)
            }
            (
                Expectation::Fails { step: None, node, check, turned_away: None, cause_contains },
                SeenFailure::Check { check: seen_check, cause },
            ) => {
                check.as_ref().is_none_or(|check| check == seen_check)
                    && node.as_ref().is_none_or(|node| cause.contains(node.as_str()))
                    && holds_all(cause, cause_contains)
            }
            _ => false,
        }
    }
}

/// Whether the check is among the failures.
fn has_failed(check: &str, seen: &[SeenFailure]) -> bool {
    seen.iter().any(|failure| matches!(failure, SeenFailure::Check { check: seen, .. } if seen == check))
}

fn holds_all(cause: &str, words: &[String]) -> bool {
    let cause = cause.to_lowercase();
    words.iter().all(|word| cause.contains(&word.to_lowercase()))
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = |words: &[String]| match words {
            [] => String::new(),
            _ => format!(" with a cause that says \"{}\"", words.join("\" and \"")),
        };
        match self {
            Expectation::Passes => f.write_str("that it passes"),
            Expectation::ChecksFail { checks } => {
                write!(f, "that each of these checks fails: {}", checks.join(", "))
            }
            Expectation::Refused { cause_contains } => {
                write!(f, "that it is refused before boot{}", cause(cause_contains))
            }
            Expectation::Fails { step, node, check, turned_away, cause_contains } => {
                f.write_str("that ")?;
                match (check, node) {
                    (Some(check), _) => write!(f, "check {check}")?,
                    (None, Some(node)) => write!(f, "{node}")?,
                    (None, None) => f.write_str("it")?,
                }
                f.write_str(" fails")?;
                if let Some(step) = step {
                    write!(f, " at \"{}\"", step.label())?;
                }
                if let Some(what) = turned_away {
                    write!(f, " because the cluster does not accept its {what}")?;
                }
                f.write_str(&cause(cause_contains))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).expect("name")
    }

    fn panic_of(name: &str) -> SeenFailure {
        let cause = "the console shows: Kernel panic - not syncing".to_owned();
        SeenFailure::Step { step: Step::Boot, node: Some(node(name)), turned_away: None, cause }
    }

    fn expected_panic() -> Expectation {
        Expectation::Fails {
            step: Some(Step::Boot),
            node: Some(node("worker-1")),
            check: None,
            turned_away: None,
            cause_contains: vec!["kernel PANIC".into()],
        }
    }

    #[test]
    fn a_failure_is_expected_only_where_and_why_it_was_expected() {
        assert_eq!(expected_panic().judge(&[panic_of("worker-1")]), Outcome::Passed);
        assert_eq!(Expectation::Passes.judge(&[]), Outcome::Passed);
        let refused = SeenFailure::Refused { cause: "not enough memory for the topology".into() };
        let expected = Expectation::Refused { cause_contains: vec!["not enough memory".into()] };
        assert_eq!(expected.judge(std::slice::from_ref(&refused)), Outcome::Passed);
        assert!(!expected_panic().judge(&[refused]).passed());
        assert!(!expected.judge(&[panic_of("worker-1")]).passed());
    }

    #[test]
    fn a_node_is_turned_away_for_what_was_found_out_and_not_for_the_words_of_the_cause() {
        let failed = |turned_away, cause: &str| SeenFailure::Step {
            step: Step::Ready,
            node: Some(node("worker-1")),
            turned_away,
            cause: cause.to_owned(),
        };
        let expected = Expectation::Fails {
            step: Some(Step::Ready),
            node: Some(node("worker-1")),
            check: None,
            turned_away: Some(TurnedAway::BootstrapToken),
            cause_contains: Vec::new(),
        };
        let words = "not done within 60 s; last seen: no token was asked for";
        assert!(expected.judge(&[failed(Some(TurnedAway::BootstrapToken), "refused")]).passed());
        assert_eq!(
            expected.judge(&[failed(None, words)]).cause_of("foreign-token").expect("a cause"),
            format!(
                "foreign-token: expected that worker-1 fails at \"ready\" because the cluster does not accept its \
                 bootstrap token, but worker-1 failed at \"ready\": {words}"
            )
        );
        assert!(!expected.judge(&[failed(Some(TurnedAway::MachineToken), words)]).passed());
        let check = SeenFailure::Check { check: "a".into(), cause: "worker-1: no token".into() };
        assert!(!expected.judge(&[check]).passed());
    }

    #[test]
    fn a_control_is_green_only_if_each_of_its_checks_fails() {
        let failed = |check: &str| SeenFailure::Check { check: check.to_owned(), cause: "no".into() };
        let control = Expectation::ChecksFail { checks: vec!["a".into(), "b".into()] };
        assert_eq!(control.judge(&[failed("b"), failed("a")]), Outcome::Passed);
        let one = control.judge(&[failed("a")]).cause_of("control").expect("red");
        assert_eq!(one, "control: expected that each of these checks fails: a, b, but check a failed: no");
        assert!(!control.judge(&[]).passed() && !control.judge(&[panic_of("worker-1")]).passed());
    }

    #[test]
    fn a_wrong_verdict_says_what_was_expected_and_what_came() {
        let texts = [
            expected_panic().judge(&[]),
            expected_panic().judge(&[panic_of("worker-2")]),
            Expectation::Passes.judge(&[panic_of("worker-1"), panic_of("worker-2")]),
            Expectation::Refused { cause_contains: Vec::new() }.judge(&[]),
        ]
        .map(|outcome| match outcome {
            Outcome::Failed { cause } => cause,
            other => panic!("{other:?}"),
        });
        insta::assert_snapshot!(texts.join("\n"), @r#"
        expected that worker-1 fails at "boot" with a cause that says "kernel PANIC", but it passed
        expected that worker-1 fails at "boot" with a cause that says "kernel PANIC", but worker-2 failed at "boot": the console shows: Kernel panic - not syncing
        worker-1 failed at "boot": the console shows: Kernel panic - not syncing; also worker-2 failed at "boot": the console shows: Kernel panic - not syncing
        expected that it is refused before boot, but it passed
        "#);
    }
}
