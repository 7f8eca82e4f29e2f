//! `lab rehearse` over the reference images in each layout that images were ever published in, out of a registry: the
//! four scenarios, from one command. Takes two minutes a layout where the clusters are warm, so it is a long test.

#[path = "support/command.rs"]
mod command;
#[path = "support/oci_layout.rs"]
mod oci_layout;

use std::{fs, io::Write, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use command::{built, said};
use lab_image_fixtures::{BootFiles, LAYOUTS};
use lab_oci::registry::{Registry, Store};
use oci_layout::add;
use serde_json::Value;

/// The boot files of a built image.
fn boot_files(role: &str) -> Result<BootFiles> {
    let boot = built(role)?.join("boot");
    Ok(BootFiles { kernel: fs::read(boot.join("vmlinuz"))?, initramfs: fs::read(boot.join("initramfs.xz"))? })
}

#[tokio::test]
#[ignore = "long: `make test-long` runs it"]
async fn images_in_every_layout_pass_a_rehearsal() -> Result<()> {
    let roles = [("compute", boot_files("compute")?), ("gateway", boot_files("gateway")?)];
    let mut layouts = LAYOUTS.to_vec();
    // How a disk image is packed is the business of unit tests.
    layouts.dedup_by_key(|(layout, _)| *layout);
    for (layout, files_of) in layouts {
        let work = tempfile::tempdir()?;
        let images = work.path().join("layout");
        for (role, boot) in &roles {
            add(&images, &format!("{role}:v1"), &files_of(boot))?;
        }
        let registry = Registry::start(Store::open(&[images])?).await?;
        let began = Instant::now();
        rehearsed(work.path(), layout, &registry.address().to_string())
            .await
            .with_context(|| format!("a rehearsal of images in the layout \"{layout}\""))?;
        // A closed standard error is not a failure of the test.
        let _ = writeln!(std::io::stderr(), "  {layout}: {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Rehearses with the images of a registry, and looks at all that is said.
async fn rehearsed(work: &Path, layout: &str, registry: &str) -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["rehearse", "--json"]);
    for role in ["compute", "gateway"] {
        command.args([format!("--{role}"), format!("{registry}/{role}:v1")]);
    }
    let summary = work.join("summary.md");
    command.env("GITHUB_STEP_SUMMARY", &summary);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{}: {}", output.status, said(&output));
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let seen = value["images"].to_string();
    ensure!(seen.matches(&Value::from(layout).to_string()).count() == 2, "not in that layout: {seen}");
    let criteria = value["criteria"].as_array().context("no criteria")?;
    ensure!(criteria.len() == 5, "{} criteria", criteria.len());
    for criterion in criteria {
        ensure!(criterion["holds"] == true, "does not hold: {criterion}");
    }
    Ok(())
}
