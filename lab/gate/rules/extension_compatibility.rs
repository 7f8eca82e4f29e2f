//! Each extension is for the version of Talos of the release.

use semver::Version;

use super::{Looked, Rule};
use crate::evidence::{Evidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "extension-compatibility",
    holds: "the version of Talos is in the range that each extension names",
    subjects: "extensions with a range",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        let talos = evidence.release.talos.clone().or_else(|| version_of(facts));
        for extension in &facts.inspection.contents.extensions {
            let Some(range) = &extension.compatibility else { continue };
            looked.at_one();
            let place = format!("{}, extension {}", node.place(), extension.name);
            match (&talos, satisfies(range, talos.as_ref())) {
                (None, _) => {
                    let cause = format!(
                        "it is for Talos {range}, and neither the release nor the image names a version of Talos"
                    );
                    looked.warning(&place, cause, "name the version in `talos:` of the release file");
                }
                (Some(_), None) => {
                    let cause = format!("\"{range}\" is not a range of versions");
                    looked.error(&place, cause, "write it as in \">= v1.8.0\"");
                }
                (Some(talos), Some(false)) => {
                    let cause = format!(
                        "version {} is for Talos {range}, and the release has {talos}",
                        extension.version
                    );
                    looked.error(&place, cause, "take the version of the extension for this Talos");
                }
                (Some(_), Some(true)) => {}
            }
        }
    }
    looked
}

/// The version in `Talos (v1.13.5)`.
pub(super) fn version_of(facts: &NodeFacts) -> Option<Version> {
    let text = facts.inspection.contents.node_version.as_deref()?;
    let words = text.split(|c: char| c.is_whitespace() || "()".contains(c));
    words.filter_map(|word| word.strip_prefix('v')).find_map(|word| Version::parse(word).ok())
}

/// Whether a version is in a range of the library that Talos uses (github.com/blang/semver, "Ranges"): comparisons
/// that all hold, or alternatives between `||`. `None` if the text is not a range.
fn satisfies(range: &str, version: Option<&Version>) -> Option<bool> {
    let alternatives = range.split("||").map(|all| all_hold(all, version)).collect::<Option<Vec<_>>>()?;
    Some(alternatives.into_iter().any(|holds| holds))
}

fn all_hold(text: &str, version: Option<&Version>) -> Option<bool> {
    // Operators may have spaces behind them.
    let mut text = text.replace(',', " ");
    for operator in ["<", ">", "=", "!"] {
        text = text.replace(&format!("{operator} "), operator);
    }
    let mut words = text.split_whitespace().peekable();
    words.peek()?;
    let mut all = true;
    for word in words {
        let digits = word.find(|c: char| c.is_ascii_alphanumeric())?;
        let (operator, number) = word.split_at(digits);
        let wanted = Version::parse(number.trim_start_matches('v')).ok()?;
        let order = version.map(|version| version.cmp_precedence(&wanted));
        let holds = |test: fn(std::cmp::Ordering) -> bool| order.is_none_or(test);
        all &= match operator {
            "" | "=" | "==" => holds(std::cmp::Ordering::is_eq),
            "!=" | "!" => holds(std::cmp::Ordering::is_ne),
            ">" => holds(std::cmp::Ordering::is_gt),
            ">=" => holds(std::cmp::Ordering::is_ge),
            "<" => holds(std::cmp::Ordering::is_lt),
            "<=" => holds(std::cmp::Ordering::is_le),
            _ => return None,
        };
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn found(range: &str) -> Vec<String> {
        let metadata = format!("name: drbd, version: v9, compatibility: {{talos: {{version: '{range}'}}}}");
        fixture::found(&RULE, &fixture::evidence(vec![Node::new("compute").extension(&metadata, &[]).read()]))
    }

    #[test]
    fn a_range_with_the_version_passes() {
        for range in [
            ">= v1.8.0",
            ">=v1.13.0 <v1.14.0",
            "< 1.2.0 || >= 1.13.5",
            "!=1.13.4",
            "v1.13.5",
            ">=1.13.0, <2.0.0",
        ] {
            assert_eq!(found(range), [""; 0], "{range}");
        }
    }

    #[test]
    fn a_range_without_the_version_and_a_text_that_is_no_range_are_told() {
        let place = "compute (compute/metal image), extension drbd";
        assert_eq!(
            found("< v1.13.0"),
            [format!("{place}: version v9 is for Talos < v1.13.0, and the release has 1.13.5")]
        );
        assert_eq!(found(">= 1.13.0 < 1.13.5").len(), 1);
        assert_eq!(found("newest"), [format!("{place}: \"newest\" is not a range of versions")]);
    }
}
