//! Negative controls: the same scenario with the fault that must make a check fail.

use super::{
    check::{CheckSpec, PlannedCheck},
    expectation::Expectation,
    file::Scenario,
};
use crate::cluster::Fault;

/// The longest name of a scenario.
const LONGEST_NAME: usize = 63;

impl<C: PlannedCheck + ?Sized> Scenario<C> {
    /// Returns one scenario for each fault that checks name in `failsWith`, with these checks. Each of them must fail.
    pub fn controls(&self) -> Vec<Self> {
        let mut faults: Vec<&Fault> = Vec::new();
        for fault in self.checks.iter().filter_map(|spec| spec.fails_with.as_ref()) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        (1..).zip(faults).map(|(number, fault)| self.control(number, fault)).collect()
    }

    fn control(&self, number: usize, fault: &Fault) -> Self {
        let names_it = |spec: &&CheckSpec<C>| spec.fails_with.as_ref() == Some(fault);
        let checks: Vec<_> = self.checks.iter().filter(names_it).cloned().collect();
        let ending = format!("-fault-{number}");
        let kept = self.name.len().min(LONGEST_NAME - ending.len());
        let name = format!("{}{ending}", &self.name[..kept]);
        let ids = checks.iter().map(|spec| spec.id.clone()).collect();
        Self {
            title: format!("{}, with a fault", self.title),
            question: format!("Do the checks of {} fail with the fault {fault}?", self.name),
            name,
            cluster: self.cluster.clone(),
            start: self.start,
            captures: self.captures.clone(),
            faults: self.faults.iter().cloned().chain([fault.clone()]).collect(),
            host_memory: self.host_memory,
            checks,
            expect: Expectation::ChecksFail { checks: ids },
            budgets: self.budgets.clone(),
            warnings: self.warnings.clone(),
        }
    }
}
