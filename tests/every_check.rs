//! The test of the tests: every kind of check fails when its subject is broken, for its own cause.

mod support;

use anyhow::{Context, Result, ensure};
use lab::scenario::Check;
use support::comes_to_what_it_expects;

/// Words of the cause by which each kind must fail in the scenario.
const CAUSES: [(&str, &str); 11] = [
    ("layers-green", "gateway-1: boot sequence is in stage Booting"),
    ("architecture", "kubelet reports arm64"),
    ("no-tailscale", "gateway-1: Tailscale among its extensions: tailscale"),
    ("pod-network", "echo.lab-network-check.svc.cluster.local: "),
    ("power-cycle", "woke up in maintenance mode"),
    ("roles", "worker-1 (compute): extensions missing: spin"),
    ("wasm", "no runtime for \"spin\""),
    ("kernel-modules", "the kernel module drbd is not loaded"),
    ("boot-hold", "worker-1: nothing holds its boot sequence up"),
    ("tailnet-routing", "the scenario has no tailnet"),
    ("tailnet-recovery", "the scenario has no tailnet"),
];

#[test]
fn every_kind_of_check_has_its_broken_subject() {
    assert_eq!(CAUSES.map(|(check, _)| check), Check::NAMES);
}

#[tokio::test]
async fn every_kind_of_check_fails_when_its_subject_is_broken() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/every-check-fails.yaml").await?;
    for (check, words) in CAUSES {
        let found = seen.iter().find(|text| text.starts_with(&format!("check {check}: ")));
        let found = found.with_context(|| format!("{check} passed by accident; seen: {seen:#?}"))?;
        ensure!(found.contains(words), "{check} failed for another cause: {found}");
    }
    ensure!(seen.len() == CAUSES.len(), "something else failed as well: {seen:#?}");
    Ok(())
}
