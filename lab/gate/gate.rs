//! One run of the gate.

use std::path::Path;

use lab_model::{Diagnostic, Diagnostics, Severity};
use lab_oci::{containers::Looker, images::ImageStore};
use serde::Serialize;

use crate::{
    evidence::Evidence,
    gather,
    ledger::{Change, Ledger, LedgerError},
    release::Release,
    rules::{Looked, RULES, Rule},
};

/// The rule of acceptances that accept nothing.
const ACCEPT: &str = "accept";

/// What the gate uses.
pub struct GateOptions<'a> {
    /// The store of node images.
    pub store: &'a ImageStore,
    /// The reader of container images.
    pub looker: &'a Looker,
    /// The ledger of the release before.
    pub against: Option<&'a Path>,
    /// The time of the check.
    pub now: jiff::Timestamp,
}

/// Why the gate has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The ledger of the release before cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The verdict about a release.
#[derive(Debug, Serialize)]
pub struct Gate {
    pub release: String,
    /// What each rule has looked at.
    pub rules: Vec<RuleResult>,
    /// The findings, most severe first.
    pub findings: Diagnostics,
    /// The findings that the release accepts, with the reasons.
    pub accepted: Vec<Accepted>,
    /// What changed since the release before, if its ledger was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    pub ledger: Ledger,
    /// How much of container images was read for this verdict, in bytes; the rest was known from earlier.
    pub read: u64,
}

/// What one rule has looked at, and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleResult {
    pub rule: &'static str,
    pub holds: &'static str,
    /// What it has looked at: a number and a noun.
    pub subjects: usize,
    pub of: &'static str,
    pub errors: usize,
    pub warnings: usize,
}

/// A finding that the release accepts.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    #[serde(flatten)]
    pub finding: Diagnostic,
    pub because: String,
}

impl Gate {
    /// Fetches and reads all parts of a release, and applies all rules. Reports each step to `tell`.
    ///
    /// # Errors
    /// Returns an error if the ledger of the release before cannot be read. Parts that cannot be read are findings.
    pub async fn run(
        release: Release,
        options: GateOptions<'_>,
        tell: &dyn Fn(String),
    ) -> Result<Self, GateError> {
        let before = options.against.map(Ledger::read).transpose()?;
        let evidence = gather::evidence(release, before, &options, tell).await;
        Ok(Self::of(&evidence))
    }

    /// Applies all rules.
    pub fn of(evidence: &Evidence) -> Self {
        let (mut rules, mut findings, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
        let mut used = vec![false; evidence.release.accepted.len()];
        for rule in &RULES {
            let Looked { subjects, findings: found } = (rule.look)(evidence);
            let mut result = RuleResult::new(rule, subjects);
            for finding in found {
                let finding = finding.rule(rule.name);
                if let Some((number, because)) = acceptance(evidence, &finding) {
                    used[number] = true;
                    accepted.push(Accepted { finding, because });
                    continue;
                }
                match finding.severity {
                    Severity::Error => result.errors += 1,
                    Severity::Warning => result.warnings += 1,
                }
                findings.push(finding);
            }
            rules.push(result);
        }
        let unused = evidence.release.accepted.iter().zip(used).filter(|(_, used)| !used);
        findings.extend(unused.map(|(entry, _)| {
            let message =
                format!("accepts a finding of {} in \"{}\", and there is none", entry.rule, entry.place);
            let finding = Diagnostic::at(&entry.position, message).in_file(&evidence.release.file);
            finding.severity(Severity::Warning).rule(ACCEPT).help("take the entry out of the release file")
        }));
        let ledger = Ledger::of(evidence);
        let changes = evidence.before.as_ref().map(|before| ledger.changes_since(before));
        let findings = Diagnostics::worst_first(findings);
        let read = evidence.read_containers().map(|(_, facts)| facts.image.read).sum();
        Self { release: evidence.release.name.clone(), rules, findings, accepted, changes, ledger, read }
    }

    /// Whether the release passes.
    pub fn passed(&self) -> bool {
        self.findings.count(Severity::Error) == 0
    }
}

impl RuleResult {
    fn new(rule: &Rule, subjects: usize) -> Self {
        let Rule { name, holds, subjects: of, look: _ } = rule;
        Self { rule: name, holds, subjects, of, errors: 0, warnings: 0 }
    }
}

/// The entry of the release that accepts a finding, and its reason.
fn acceptance(evidence: &Evidence, finding: &Diagnostic) -> Option<(usize, String)> {
    let accepts = |entry: &crate::release::Acceptance| {
        let fits = finding.file.contains(&entry.place) || finding.message.contains(&entry.place);
        finding.rule.as_deref() == Some(entry.rule.as_str()) && fits
    };
    let entries = &evidence.release.accepted;
    let number = entries.iter().position(accepts)?;
    Some((number, entries[number].reason.clone()))
}

#[cfg(test)]
mod tests {
    use lab_model::Position;

    use super::*;
    use crate::{
        release::Acceptance,
        rules::fixture::{self, Node},
    };

    #[test]
    fn a_good_release_has_no_finding_and_the_rules_have_looked() {
        let gateway = Node::new("gateway").extension("name: tailscale, version: v1", &[]);
        let evidence = fixture::evidence(vec![Node::new("compute").read(), gateway.read()]);
        let gate = Gate::of(&evidence);
        assert!(gate.passed() && gate.findings.is_empty(), "{:?}", gate.findings);
        for name in
            ["readable", "architecture", "module-kernel", "module-signature", "talos-version", "one-build"]
        {
            let result = gate.rules.iter().find(|result| result.rule == name).expect("rule");
            assert!(result.subjects > 0, "{name} looked at nothing");
        }
    }

    #[test]
    fn an_accepted_finding_does_not_count_and_an_acceptance_of_nothing_does() {
        let node = Node::new("compute").root("etc/os-release", b"PRETTY_NAME=\"Talos (v1.12.0)\"\n");
        let mut evidence = fixture::evidence(vec![node.read()]);
        assert!(!Gate::of(&evidence).passed());
        let entry = |place: &str| Acceptance {
            rule: "talos-version".into(),
            place: place.into(),
            reason: "a test".into(),
            position: Position { line: 9, column: 1 },
        };
        evidence.release.accepted = vec![entry("compute/metal"), entry("gateway/metal")];
        let gate = Gate::of(&evidence);
        assert!(gate.passed());
        assert_eq!(gate.accepted.len(), 1);
        let told: Vec<_> = gate.findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(told, ["accepts a finding of talos-version in \"gateway/metal\", and there is none"]);
    }
}
