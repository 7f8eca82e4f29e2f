//! Own checks on real VMs: scripts, a Chainsaw test, manifests, requests and resources of nodes. All pass on the cluster of
//! scenario 02, and each fails with the fault that it names.

mod support;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use lab::scenario;
use lab_model::events::Outcome;
use lab_plan::scenario::{Expectation, SeenFailure};
use lab_report::{HTML, JUNIT};
use support::{options, run_in, run_with};

#[tokio::test]
#[ignore = "long: eleven checks one after the other; tests/vet.rs runs such checks against clusters without VMs; `make test-long` runs it"]
async fn own_checks_pass_on_a_sound_cluster_and_are_in_every_report() -> Result<()> {
    let file = "tests/own-checks/own-checks.yaml";
    let (verdict, directory) = run_in(file).await?;
    ensure!(verdict.outcome == Outcome::Passed, "{:?}", verdict.outcome);
    let checks = scenario::load(Path::new(file))?.checks;
    ensure!(checks.len() >= 11, "{} checks", checks.len());
    for report in [HTML, JUNIT] {
        let text = fs::read_to_string(directory.join(report)).with_context(|| format!("reading {report}"))?;
        for check in &checks {
            ensure!(text.contains(&check.id), "{report} does not name {}", check.id);
        }
        ensure!(text.contains("the pod is Ready"), "{report} has no output of the scripts");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "long: a cluster for each fault; tests/vet.rs has broken clusters without VMs; `make test-long` runs it"]
async fn each_own_check_fails_with_the_fault_that_it_names() -> Result<()> {
    let file = "tests/own-checks/own-checks-fail.yaml";
    let scenario = scenario::load(Path::new(file))?;
    let mut controls = scenario.controls();
    ensure!(controls.len() == 1, "the checks name {} faults", controls.len());
    let control = controls.remove(0);
    ensure!(control.checks.len() == scenario.checks.len(), "a check names no fault");
    ensure!(matches!(control.expect, Expectation::ChecksFail { .. }), "{:?}", control.expect);
    let (verdict, _) = run_with(file, control, options("own-checks-fail")).await?;
    ensure!(verdict.outcome == Outcome::Passed, "{:?}", verdict.outcome);
    // Each for its own subject, and not because it could not look.
    let cause = |id: &str| {
        verdict.seen.iter().find_map(|failure| match failure {
            SeenFailure::Check { check, cause } if check == id => Some(cause.clone()),
            _ => None,
        })
    };
    for (id, part) in [
        ("01-wasm-runs", "the pod is not Ready"),
        ("03-no-sandbox-failed", "the sandbox of the pod could not be created"),
        ("chainsaw", "assert (line "),
        ("manifests", "Pod/own-manifest is available"),
        ("machine", "cp-1: ExtensionStatuses.runtime.talos.dev"),
    ] {
        let cause = cause(id).with_context(|| format!("{id} has no cause"))?;
        ensure!(cause.contains(part), "{id}: {cause}");
    }
    Ok(())
}
