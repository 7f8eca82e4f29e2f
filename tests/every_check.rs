//! The test of the tests: every kind of check fails when its subject is broken, for its own cause.

mod support;

use anyhow::{Result, ensure};
use lab::scenario::CHECKS;
use support::comes_to_what_it_expects;

#[tokio::test]
async fn every_kind_of_check_fails_when_its_subject_is_broken() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/every-check-fails.yaml").await?;
    for check in CHECKS.iter().map(|check| check.name) {
        let failed = seen.iter().any(|text| text.starts_with(&format!("check {check}: ")));
        ensure!(failed, "{check} passed by accident; seen: {seen:#?}");
    }
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}
