//! Lowers the `checks:`, `faults:` and `expect:` parts of a scenario file. They refer to nodes, steps and
//! each other, so the cluster is lowered first.

use lab_model::{
    Diagnostic, Size,
    node::{Kind, NodeName, Role},
    words::choice,
};
use serde_saphyr::Spanned;

use super::{
    check::{CheckSpec, PlannedCheck, Words},
    check_context::CheckContext,
    check_entry::ReadEntry,
    expectation::Expectation,
    lowering::Lowering,
    raw::{RawExpect, RawFault, RawScenario, RawWords, Text},
    raw_check::{RawCheck, RawCheckEntry},
};
use crate::cluster::{ClusterSpec, Fault};

/// Returns the faults of the cluster, and the simulated host memory.
pub(super) fn lower_faults(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    cluster: &ClusterSpec,
) -> (Vec<Fault>, Option<Size>) {
    let faults = raw.faults.iter().filter_map(|fault| lowering.fault(fault, cluster)).collect();
    let mut host_memory = None;
    for fault in &raw.faults {
        if let RawFault::HostMemory { available } = &fault.value {
            host_memory = lowering.parsed(available);
        }
    }
    (faults, host_memory)
}

/// Returns the checks of well-formed entries.
pub(super) fn lower_checks<C: PlannedCheck + ?Sized>(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    entries: Vec<ReadEntry<C>>,
    cluster: &ClusterSpec,
) -> Vec<CheckSpec<C>> {
    let mut checks: Vec<CheckSpec<C>> = Vec::new();
    for (entry, raw) in entries.into_iter().zip(&raw.checks) {
        let (name, read) = match entry {
            ReadEntry::Check(name, read) => (name, read),
            ReadEntry::Refused(problem) => {
                lowering.report(problem);
                continue;
            }
        };
        let Some(check) = read(&mut CheckContext::new(lowering, cluster, raw)) else { continue };
        let keys = match &raw.value {
            RawCheck::Bare(_) => None,
            RawCheck::Full(keys) => Some(&**keys),
        };
        let id = match keys.and_then(|keys| keys.id.as_ref()) {
            Some(id) if checks.iter().any(|earlier| earlier.id == id.value) => {
                let message = format!("the check id \"{}\" is used twice", id.value);
                lowering
                    .report(Diagnostic::at(id, message).help("ids name checks in reports; choose another"));
                continue;
            }
            Some(id) => match NodeName::new(id.value.as_str()) {
                Ok(id) => id.to_string(),
                Err(error) => {
                    let message = error.to_string().replace("is not a node name", "is not a check id");
                    lowering.report(Diagnostic::at(id, message));
                    continue;
                }
            },
            None => free_id(name, &checks),
        };
        let derived = check.words(cluster);
        let own = |of: fn(&RawCheckEntry) -> &Option<String>, derived: String| {
            keys.and_then(|keys| of(keys).clone()).unwrap_or(derived)
        };
        let words = Words {
            given: own(|keys| &keys.given, derived.given),
            when: own(|keys| &keys.when, derived.when),
            then: own(|keys| &keys.then, derived.then),
        };
        let fails_with = keys.and_then(|keys| keys.fails_with.as_ref());
        let fails_with = fails_with.and_then(|fault| lowering.fault_of_check(fault, cluster));
        checks.push(CheckSpec { id, check, words, fails_with });
    }
    checks
}

/// Returns `name`, or `name-2` and so on if the name is in use.
fn free_id<C: ?Sized>(name: &str, checks: &[CheckSpec<C>]) -> String {
    let taken = |id: &str| checks.iter().any(|check| check.id == id);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|id| !taken(id)).unwrap_or_default()
}

pub(super) fn lower_expectation(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    cluster: &ClusterSpec,
) -> Expectation {
    let words = |words: &Option<RawWords>| words.as_ref().map(|w| w.0.clone()).unwrap_or_default();
    match &raw.expect {
        None | Some(RawExpect::Passes) => Expectation::Passes,
        Some(RawExpect::Refused { cause_contains }) => {
            Expectation::Refused { cause_contains: words(cause_contains) }
        }
        Some(RawExpect::Fails { step, node, check, turned_away, cause_contains }) => {
            if let (Some(_), Some(check)) = (step, check) {
                let problem = Diagnostic::at(check, "a failure is expected at a step and in a check");
                lowering.report(problem.help("keep either `step` or `check`: checks run after all steps"));
            }
            if let (Some(_), Some(check)) = (turned_away, check) {
                let problem = Diagnostic::at(check, "a node is turned away at a step and not in a check");
                lowering.report(problem.help("keep either `turnedAway` or `check`"));
            }
            Expectation::Fails {
                step: *step,
                node: node.as_ref().and_then(|node| lowering.node(node, cluster)),
                check: check.as_ref().map(|check| check.value.clone()),
                turned_away: *turned_away,
                cause_contains: words(cause_contains),
            }
        }
    }
}

impl Lowering<'_> {
    /// Returns the node with the given name, or reports a problem.
    pub(super) fn node(&mut self, name: &Text, cluster: &ClusterSpec) -> Option<NodeName> {
        let found = cluster.nodes.iter().find(|node| node.name.as_str() == name.value);
        if found.is_none() {
            let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            let mut problem = Diagnostic::at(name, format!("there is no node \"{}\"", name.value));
            problem.help = choice(&name.value, &names, "nodes");
            self.report(problem);
        }
        found.map(|node| node.name.clone())
    }

    /// Returns the role with the given name if a node has it, or reports a problem.
    pub(super) fn role(&mut self, name: &Text, cluster: &ClusterSpec) -> Option<Role> {
        let found = cluster.images.keys().find(|role| role.as_str() == name.value);
        if found.is_none() {
            let roles: Vec<&str> = cluster.images.keys().map(|role| role.as_str()).collect();
            let mut problem = Diagnostic::at(name, format!("no node has the role \"{}\"", name.value));
            problem.help = choice(&name.value, &roles, "roles of the nodes");
            self.report(problem);
        }
        found.cloned()
    }

    /// Returns a fault that must make a check fail, or reports a problem.
    fn fault_of_check(&mut self, raw: &Spanned<RawFault>, cluster: &ClusterSpec) -> Option<Fault> {
        if let RawFault::HostMemory { .. } = raw.value {
            let problem =
                Diagnostic::at(raw, "with too little memory the cluster does not start, and no check runs");
            self.report(problem.help("name a fault with which the cluster forms"));
            return None;
        }
        self.fault(raw, cluster)
    }

    fn fault(&mut self, raw: &Spanned<RawFault>, cluster: &ClusterSpec) -> Option<Fault> {
        Some(match &raw.value {
            RawFault::KernelPanic { node } => Fault::KernelPanic { node: self.node(node, cluster)? },
            RawFault::NoConfig { node } => Fault::NoConfig { node: self.node(node, cluster)? },
            RawFault::LostDisk { node } => Fault::LostDisk { node: self.node(node, cluster)? },
            RawFault::StuckLink { node } => Fault::StuckLink { node: self.node(node, cluster)? },
            RawFault::WrongClock { node } => Fault::WrongClock { node: self.node(node, cluster)? },
            RawFault::OtherArchitecture { node } => {
                Fault::OtherArchitecture { node: self.node(node, cluster)? }
            }
            RawFault::OtherImage { node, role: text } => {
                let node = self.node(node, cluster)?;
                Fault::OtherImage { node, role: self.role(text, cluster)? }
            }
            RawFault::MissingExtension { node, extension } => Fault::MissingExtension {
                node: self.node(node, cluster)?,
                extension: extension.value.clone(),
            },
            RawFault::KillQemu { node, at } => {
                let node = self.node(node, cluster)?;
                if !Fault::KILL_STEPS.contains(&at.value) {
                    let message = format!("no machine can be killed at the step \"{}\"", at.value.label());
                    let steps = "steps of a node: boot, maintenance, apply-config, secure-api, ready";
                    self.report(Diagnostic::at(at, message).help(steps));
                    return None;
                }
                Fault::KillQemu { node, at: at.value }
            }
            RawFault::ForeignToken { node: text } => {
                let node = self.node(text, cluster)?;
                if cluster.node(&node).is_some_and(|spec| spec.kind != Kind::Worker) {
                    let message = format!("{node} is a control plane and joins no other node by token");
                    self.report(Diagnostic::at(text, message).help("name a worker"));
                    return None;
                }
                Fault::ForeignToken { node }
            }
            // Not a fault of the cluster; lowered separately.
            RawFault::HostMemory { .. } => return None,
        })
    }
}
