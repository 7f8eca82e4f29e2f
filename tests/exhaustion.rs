//! A host that has too little of something: each run ends with that cause and exit code 3. tests/warm.rs kills parts of a
//! living cluster.

#[path = "support/command.rs"]
mod command;
#[path = "support/small_disk.rs"]
mod small_disk;

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use command::{built, said};
use small_disk::on_small_disk;

/// Forms a cluster and fills the disk under it as soon as its node boots.
const FILLED: &str = r#"
cd "$ROOT"
"$LAB" up --nodes 1 --run-root "$PLACE/runs" &
lab=$!
until cat "$PLACE"/runs/*/nodes/cp-1/console.log 2>/dev/null | grep -q . || ! kill -0 $lab; do sleep 0.1; done
dd if=/dev/zero of="$PLACE/filler" bs=1M 2>/dev/null
wait $lab
"#;

#[test]
fn a_disk_that_fills_up_during_a_run_is_the_cause_and_no_verdict_on_the_image() -> Result<()> {
    built("compute")?;
    let (lab, root) = (Path::new(env!("CARGO_BIN_EXE_lab")), Path::new(env!("CARGO_MANIFEST_DIR")));
    let Some(output) = on_small_disk(800, FILLED, &[("LAB", lab), ("ROOT", root)])? else { return Ok(()) };
    let said = said(&output);
    ensure!(output.status.code() == Some(3), "{:?}: {said}", output.status);
    ensure!(said.contains("cp-1: QEMU cannot write its disk (No space left on device)"), "{said}");
    ensure!(said.contains("free space on the host") && !said.contains("panicked"), "{said}");
    Ok(())
}

#[test]
fn too_few_descriptors_are_the_cause_of_a_run_that_cannot_start() -> Result<()> {
    let runs = tempfile::tempdir()?;
    let line = "ulimit -n 32; exec \"$LAB\" up --nodes 1 --run-root \"$RUNS\"";
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("LAB", env!("CARGO_BIN_EXE_lab"))
        .env("RUNS", runs.path())
        .output()?;
    let said = said(&output);
    ensure!(output.status.code() == Some(3), "{:?}: {said}", output.status);
    ensure!(said.contains("ulimit -n") && !said.contains("panicked"), "{said}");
    Ok(())
}
