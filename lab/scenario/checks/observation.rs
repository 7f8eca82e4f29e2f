//! The observations of a check.

use std::fmt::Display;

/// Facts for the report, and problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The observed facts, one per line.
    pub evidence: Vec<String>,
    problems: Vec<String>,
}

impl Observation {
    pub fn fact(&mut self, text: impl Display) {
        self.evidence.push(text.to_string());
    }

    /// Notes a problem. The check fails.
    pub fn problem(&mut self, text: impl Display) {
        self.problems.push(text.to_string());
    }

    /// Notes a problem unless it is noted already.
    pub fn problem_once(&mut self, text: impl Display) {
        let text = text.to_string();
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// Notes a fact if `good`, otherwise a problem.
    pub fn note(&mut self, good: bool, text: impl Display) {
        if good {
            self.fact(text);
        } else {
            self.problem(text);
        }
    }

    /// Adds the observations of another source.
    pub fn merge(&mut self, other: Observation) {
        self.evidence.extend(other.evidence);
        self.problems.extend(other.problems);
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Why the check fails, or `None` if it passes. A check without observations fails.
    pub fn cause(&self) -> Option<String> {
        if !self.problems.is_empty() {
            Some(self.problems.join("; "))
        } else if self.evidence.is_empty() {
            Some("nothing was observed, so nothing is known".into())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_saw_nothing_fails() {
        assert!(Observation::default().cause().is_some());
    }

    #[test]
    fn one_problem_outweighs_any_number_of_facts() {
        let mut observation = Observation::default();
        observation.fact("good");
        assert_eq!(observation.cause(), None);
        observation.note(false, "bad");
        assert_eq!(observation.cause().as_deref(), Some("bad"));
    }
}
