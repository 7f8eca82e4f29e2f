//! The `checks:`, `faults:` and `expect:` parts of a scenario file. They name nodes, steps and
//! each other, so they are understood after the cluster.

use lab_model::{
    Size,
    node::{Kind, NodeName, Role},
    words::choice,
};
use lab_plan::cluster::{ClusterSpec, Fault};
use serde_saphyr::Spanned;

use super::{
    check::{Architecture, Check, CheckSpec, HoldEnd},
    expectation::Expectation,
    file::Lowering,
    problem::Problem,
    raw::{
        RawExpect, RawFault, RawScenario, RawWords, Text,
        check::{RawArchitectureName, RawCheck, RawCheckKeys, RawHoldEnd},
    },
};

/// The faults of the cluster, and the memory that the host is said to have.
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

/// The checks; the one that a scenario without `checks` means is [`Check::LayersGreen`].
pub(super) fn lower_checks(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    cluster: &ClusterSpec,
) -> Vec<CheckSpec> {
    let mut checks: Vec<CheckSpec> = Vec::new();
    let nowhere = serde_saphyr::Location::UNKNOWN;
    let default = [Spanned::new(RawCheck::Bare("layers-green".to_owned()), nowhere, nowhere)];
    let entries = if raw.checks.is_empty() { &default[..] } else { &raw.checks[..] };
    for entry in entries {
        let Some((check, keys)) = lowering.check(entry, cluster) else { continue };
        let id = match keys.and_then(|keys| keys.id.as_ref()) {
            Some(id) if checks.iter().any(|earlier| earlier.id == id.value) => {
                let message = format!("the check id \"{}\" is used twice", id.value);
                lowering.report(Problem::at(id, message).help("ids name checks in reports; choose another"));
                continue;
            }
            Some(id) => match NodeName::new(id.value.as_str()) {
                Ok(id) => id.to_string(),
                Err(error) => {
                    let message = error.to_string().replace("is not a node name", "is not a check id");
                    lowering.report(Problem::at(id, message));
                    continue;
                }
            },
            None => free_id(check.name(), &checks),
        };
        let [given, when, then] = check.words(cluster);
        let own = |of: fn(&RawCheckKeys) -> &Option<String>, derived: String| {
            keys.and_then(|keys| of(keys).clone()).unwrap_or(derived)
        };
        checks.push(CheckSpec {
            given: own(|keys| &keys.given, given),
            when: own(|keys| &keys.when, when),
            then: own(|keys| &keys.then, then),
            id,
            check,
        });
    }
    checks
}

/// `name`, or `name-2` and so on when that is taken.
fn free_id(name: &str, checks: &[CheckSpec]) -> String {
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
                let problem = Problem::at(check, "a failure is expected at a step and in a check");
                lowering.report(problem.help("keep either `step` or `check`: checks run after all steps"));
            }
            if let (Some(_), Some(check)) = (turned_away, check) {
                let problem = Problem::at(check, "a node is turned away at a step and not in a check");
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
    /// The node of this name, or a reported problem.
    pub(super) fn node(&mut self, name: &Text, cluster: &ClusterSpec) -> Option<NodeName> {
        let found = cluster.nodes.iter().find(|node| node.name.as_str() == name.value);
        if found.is_none() {
            let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            let mut problem = Problem::at(name, format!("there is no node \"{}\"", name.value));
            problem.help = choice(&name.value, &names, "nodes");
            self.report(problem);
        }
        found.map(|node| node.name.clone())
    }

    /// The role of this name that a node has, or a reported problem.
    fn role(&mut self, name: &Text, cluster: &ClusterSpec) -> Option<Role> {
        let found = cluster.images.keys().find(|role| role.as_str() == name.value);
        if found.is_none() {
            let roles: Vec<&str> = cluster.images.keys().map(|role| role.as_str()).collect();
            let mut problem = Problem::at(name, format!("no node has the role \"{}\"", name.value));
            problem.help = choice(&name.value, &roles, "roles of the nodes");
            self.report(problem);
        }
        found.cloned()
    }

    fn fault(&mut self, raw: &Spanned<RawFault>, cluster: &ClusterSpec) -> Option<Fault> {
        Some(match &raw.value {
            RawFault::KernelPanic { node } => Fault::KernelPanic { node: self.node(node, cluster)? },
            RawFault::NoConfig { node } => Fault::NoConfig { node: self.node(node, cluster)? },
            RawFault::LostDisk { node } => Fault::LostDisk { node: self.node(node, cluster)? },
            RawFault::StuckLink { node } => Fault::StuckLink { node: self.node(node, cluster)? },
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
                    self.report(Problem::at(at, message).help(steps));
                    return None;
                }
                Fault::KillQemu { node, at: at.value }
            }
            RawFault::ForeignToken { node: text } => {
                let node = self.node(text, cluster)?;
                if cluster.node(&node).is_some_and(|spec| spec.kind != Kind::Worker) {
                    let message = format!("{node} is a control plane, which joins nobody by token");
                    self.report(Problem::at(text, message).help("name a worker"));
                    return None;
                }
                Fault::ForeignToken { node }
            }
            // Not a fault of the cluster; lowered apart.
            RawFault::HostMemory { .. } => return None,
        })
    }

    /// The check of an entry and the entry's keys, or a reported problem.
    fn check<'r>(
        &mut self,
        raw: &'r Spanned<RawCheck>,
        cluster: &ClusterSpec,
    ) -> Option<(Check, Option<&'r RawCheckKeys>)> {
        match &raw.value {
            RawCheck::Bare(name) => match bare_check(name) {
                Some(check) => Some((check, None)),
                None if Check::NAMES.contains(&name.as_str()) => {
                    let problem = Problem::at(raw, format!("the check {name} needs to know more"));
                    let first = if name == "partition" { "groups" } else { "node" };
                    self.report(problem.help(format!("write `{name}: {{ {first}: … }}`")));
                    None
                }
                None => {
                    let mut problem = Problem::at(raw, format!("unknown check \"{name}\""));
                    problem.help = choice(name, &Check::NAMES, "checks");
                    self.report(problem);
                    None
                }
            },
            RawCheck::Full(keys) => {
                let mut found = self.checks_of(keys, cluster)?;
                if found.len() == 1 {
                    return found.pop().map(|check| (check, Some(&**keys)));
                }
                let message = match found.as_slice() {
                    [] => "this entry names no check".to_owned(),
                    several => {
                        let names: Vec<&str> = several.iter().map(Check::name).collect();
                        format!("this entry names {} checks: {}", names.len(), names.join(", "))
                    }
                };
                let help = format!(
                    "give each check an entry of its own, `- name` or `- name: {{…}}`; checks: {}",
                    Check::NAMES.join(", ")
                );
                self.report(Problem::at(raw, message).help(help));
                None
            }
        }
    }

    /// All checks that an entry names; `None` when a problem with one was reported.
    fn checks_of(&mut self, keys: &RawCheckKeys, cluster: &ClusterSpec) -> Option<Vec<Check>> {
        let mut checks = Vec::new();
        if keys.layers_green.is_some() {
            checks.push(Check::LayersGreen);
        }
        if let Some(raw) = &keys.architecture {
            let is = match raw.is {
                Some(RawArchitectureName::Amd64) => Architecture::Amd64,
                Some(RawArchitectureName::Arm64) | None => Architecture::Arm64,
            };
            checks.push(Check::Architecture { is });
        }
        if let Some(raw) = &keys.no_tailscale {
            let role = match &raw.role {
                Some(text) => Some(self.role(text, cluster)?),
                None => None,
            };
            checks.push(Check::NoTailscale { role });
        }
        if let Some(raw) = &keys.pod_network {
            let (service, dns) = (raw.service.unwrap_or(true), raw.dns.unwrap_or(true));
            checks.push(Check::PodNetwork { service, dns });
        }
        if let Some(raw) = &keys.power_cycle {
            checks.push(Check::PowerCycle { node: self.node(&raw.node, cluster)? });
        }
        if keys.roles.is_some() {
            checks.push(Check::Roles);
        }
        if keys.tailnet_routing.is_some() {
            checks.push(Check::TailnetRouting);
        }
        if let Some(raw) = &keys.tailnet_recovery {
            checks.push(Check::TailnetRecovery { after: raw.after.clone() });
        }
        if keys.wasm.is_some() {
            checks.push(Check::Wasm);
        }
        if let Some(raw) = &keys.kernel_modules {
            checks.push(Check::KernelModules { names: raw.names.clone() });
        }
        if let Some(raw) = &keys.link_cut {
            checks.push(self.link_cut(raw, cluster)?);
        }
        if let Some(raw) = &keys.partition {
            checks.push(self.partition(raw, cluster)?);
        }
        if let Some(raw) = &keys.link_shape {
            checks.push(self.link_shape(raw, cluster)?);
        }
        if let Some(raw) = &keys.boot_hold {
            let node = self.node(&raw.node, cluster)?;
            let document = match &raw.document {
                Some(document) => Some(self.patch(document)?),
                None => None,
            };
            let ends = match (raw.ends, document) {
                (RawHoldEnd::Release, Some(document)) => HoldEnd::Release { document },
                (RawHoldEnd::Reboot, None) => HoldEnd::Reboot,
                (RawHoldEnd::Release, None) => {
                    let message = "what releases the boot is not said";
                    self.report(Problem::at(&raw.node, message).help("give `document`"));
                    return None;
                }
                (RawHoldEnd::Reboot, Some(_)) => {
                    let message = "a boot that ends in a reboot is not released";
                    self.report(Problem::at(&raw.node, message).help("leave `document` out"));
                    return None;
                }
            };
            checks.push(Check::BootHold { node, ends });
        }
        Some(checks)
    }
}

/// The check of this name with its defaults; `None` when there is no such check or it cannot do
/// without parameters.
fn bare_check(name: &str) -> Option<Check> {
    Some(match name {
        "layers-green" => Check::LayersGreen,
        "architecture" => Check::Architecture { is: Architecture::Arm64 },
        "no-tailscale" => Check::NoTailscale { role: None },
        "pod-network" => Check::PodNetwork { service: true, dns: true },
        "roles" => Check::Roles,
        "wasm" => Check::Wasm,
        "tailnet-routing" => Check::TailnetRouting,
        _ => return None,
    })
}
