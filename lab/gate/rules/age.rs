//! A tag of the release names a build that is not old.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "age",
    holds: "the tags of node images name recent builds",
    subjects: "node images with a build time",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for node in &evidence.nodes {
        let Ok(facts) = &node.facts else { continue };
        let Some(days) = days_old(facts.origin.created.as_deref(), evidence) else { continue };
        looked.at_one();
        if facts.origin.mutable && days > evidence.release.age.as_secs() / (24 * 60 * 60) {
            let cause = format!("the tag names a build of {days} days ago");
            looked.warning(&node.place(), cause, "push a new build, or set maxAgeDays in the release file");
        }
    }
    looked
}

/// The age of a build, in days; `None` if the image does not say its build time. Reproducible builds use the start of the
/// epoch.
pub(super) fn days_old(created: Option<&str>, evidence: &Evidence) -> Option<u64> {
    let created: jiff::Timestamp =
        created?.parse().ok().filter(|time: &jiff::Timestamp| time.as_second() > 0)?;
    let hours = evidence.now.duration_since(created).as_hours();
    Some(u64::try_from(hours).unwrap_or(0) / 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn found(created: &str) -> Vec<String> {
        fixture::found(&RULE, &fixture::evidence(vec![Node::new("compute").created(created).read()]))
    }

    #[test]
    fn a_recent_build_and_a_reproducible_one_pass() {
        assert_eq!(found("2026-05-20T00:00:00Z"), [""; 0]);
        assert_eq!(found("1970-01-01T00:00:00Z"), [""; 0]);
    }

    #[test]
    fn an_old_build_is_told() {
        assert_eq!(
            found("2026-01-02T03:04:05Z"),
            ["compute (compute/metal image): the tag names a build of 149 days ago"]
        );
    }
}
