//! What is refused before anything boots, through the command line: images out of a registry that do not fit,
//! images that nodes could not pull, machine configs that form no cluster.

#[path = "support/command.rs"]
mod command;
#[path = "support/oci_layout.rs"]
mod oci_layout;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::Result;
use command::{built, said};
use lab_oci::registry::{Registry, Store};
use oci_layout::add;
use serde_json::Value;

/// Adds a built image as an asset directory to an OCI image layout.
fn add_built(layout: &Path, role: &str) -> Result<()> {
    let directory = built(role)?;
    let files = ["checksums.sha256", "boot/vmlinuz", "boot/initramfs.xz"];
    let files: Vec<(String, Vec<u8>)> = files
        .iter()
        .map(|file| Ok((format!("assets/talos/arm64/{file}"), fs::read(directory.join(file))?)))
        .collect::<Result<_>>()?;
    add(layout, &format!("{role}:v1"), &files)
}

/// Runs the command away from this thread, which serves a registry meanwhile.
async fn lab(directory: &Path, arguments: Vec<String>) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.current_dir(directory).args(arguments).env("GITHUB_STEP_SUMMARY", directory.join("summary.md"));
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn both_images_of_a_registry_are_checked_within_ten_seconds() -> Result<()> {
    let work = tempfile::tempdir()?;
    let layout = work.path().join("layout");
    add_built(&layout, "compute")?;
    add_built(&layout, "gateway")?;
    let registry = Registry::start(Store::open(&[layout])?).await?;
    let at = registry.address();
    let pair = format!("image preflight --cache cache compute={at}/compute:v1 gateway={at}/gateway:v1");
    let first = lab(work.path(), words(&pair)).await?;
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    let started = Instant::now();
    let cached = lab(work.path(), words(&pair)).await?;
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    assert!(said(&cached).contains("✅ 2 images, 0 errors, 0 warnings"), "{}", said(&cached));
    let summary = fs::read_to_string(work.path().join("summary.md"))?;
    assert!(summary.contains(&format!("| {at}/gateway:v1 | gateway |")), "{summary}");

    // The compute image under the gateway's name, which has happened to people.
    let swapped =
        format!("image preflight --cache cache --json compute={at}/compute:v1 gateway={at}/compute:v1");
    let swapped = lab(work.path(), words(&swapped)).await?;
    assert_eq!(swapped.status.code(), Some(1), "{}", said(&swapped));
    let value: Value = serde_json::from_slice(&swapped.stdout)?;
    let checks: Vec<_> =
        value["findings"].as_array().expect("findings").iter().map(|f| &f["check"]).collect();
    assert_eq!(checks, ["role", "same"]);

    // Pinned, they need no registry any more.
    let pin =
        lab(work.path(), words(&format!("image pin --cache cache {at}/compute:v1 {at}/gateway:v1"))).await?;
    assert_eq!(pin.status.code(), Some(0), "{}", said(&pin));
    drop(registry);
    let offline = lab(work.path(), words(&pair)).await?;
    assert_eq!(offline.status.code(), Some(0), "{}", said(&offline));
    assert!(said(&offline).contains("by images.lock.yaml"), "{}", said(&offline));
    Ok(())
}

/// A directory with the built compute image and an empty mirror.
fn without_workloads() -> Result<tempfile::TempDir> {
    let work = tempfile::tempdir()?;
    let images = work.path().join("images");
    fs::create_dir_all(images.join("workloads"))?;
    std::os::unix::fs::symlink(built("compute")?, images.join("compute"))?;
    fs::write(images.join("workloads/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)?;
    Ok(work)
}

#[tokio::test]
async fn an_empty_mirror_stops_the_run_before_boot_and_names_each_image() -> Result<()> {
    let work = without_workloads()?;
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/01-compute-only-cluster.yaml");
    let arguments = format!("run --images images --run-root runs {}", scenario.display());
    let output = lab(work.path(), words(&arguments)).await?;
    let text = said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    for part in [
        "registry.k8s.io/pause:3.10 (for cp-1, worker-1, worker-2)",
        "registry.k8s.io/coredns/coredns:v1.14.6 (for cp-1)",
        "lab.local/echo:v1 (for the checks)",
        "lab mirror pull registry.k8s.io/coredns/coredns:v1.14.6 registry.k8s.io/pause:3.10",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("boot …"), "something booted:\n{text}");
    Ok(())
}

/// One node, without a workload.
const SMALL: &str = "name: small\ncluster:\n  gateways: 0\n  nodes: [{ name: cp-1, kind: controlplane }]\n";

/// All that the runs below `work` have recorded.
fn recorded(work: &Path) -> Result<String> {
    let mut text = String::new();
    for run in fs::read_dir(work.join("runs"))?.flatten() {
        text.push_str(&fs::read_to_string(run.path().join("events.jsonl")).unwrap_or_default());
    }
    Ok(text)
}

#[tokio::test]
async fn with_pull_through_images_of_no_registry_are_refused_and_the_other_images_are_named() -> Result<()> {
    let work = without_workloads()?;
    fs::write(work.path().join("small.yaml"), SMALL)?;
    let run = "run --dry-run --images images --run-root runs";
    let without = lab(work.path(), words(&format!("{run} small.yaml"))).await?;
    assert!(said(&without).contains("the mirror lacks images"), "{}", said(&without));
    let with = lab(work.path(), words(&format!("{run} --pull-through small.yaml"))).await?;
    assert_eq!(with.status.code(), Some(0), "{}", said(&with));
    let told = "fetched once a node asks for them (--pull-through): registry.k8s.io/coredns/coredns:v1.14.6 (for cp-1); \
                registry.k8s.io/pause:3.10 (for cp-1)";
    assert!(said(&with).contains(told), "{}", said(&with));

    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/01-compute-only-cluster.yaml");
    let refused = lab(work.path(), words(&format!("{run} --pull-through {}", scenario.display()))).await?;
    let text = said(&refused);
    assert!(text.contains("the cluster needs: lab.local/echo:v1 (for the checks)"), "{text}");
    assert!(!text.contains("registry.k8s.io"), "{text}");
    Ok(())
}

/// A QEMU that reports its capabilities, records each other start, and then does nothing.
fn stand_in(work: &Path) -> Result<PathBuf> {
    let qemu = work.join("qemu");
    let script = "#!/bin/sh\ncase \"$*\" in *'-qmp stdio'*) exec qemu-system-aarch64 \"$@\" ;; esac\n\
                  echo \"$*\" >> \"${0%/*}/started\"\nexit 1\n";
    fs::write(&qemu, script)?;
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755))?;
    Ok(qemu)
}

/// How the stand-in below `work` was started.
fn started(work: &Path) -> String {
    fs::read_to_string(work.join("started")).unwrap_or_default()
}

/// The names of what is in a directory.
fn names(directory: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn a_dry_run_starts_and_measures_nothing_and_leaves_no_run_and_no_image_disk() -> Result<()> {
    let work = tempfile::tempdir()?;
    let images = built("compute")?;
    let images = images.parent().expect("parent").display();
    fs::write(work.path().join("small.yaml"), format!("{SMALL}  imageDelivery: disk\n"))?;
    let qemu = stand_in(work.path())?;
    let run = format!("run --qemu {} --images {images} --run-root runs --json small.yaml", qemu.display());
    let dry = |work: PathBuf| {
        let arguments = words(&format!("{run} --dry-run"));
        async move {
            let output = lab(&work, arguments).await?;
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            let plan: Value = serde_json::from_slice(&output.stdout)?;
            anyhow::Ok((plan, String::from_utf8(output.stderr)?))
        }
    };
    let (plan, notes) = dry(work.path().to_owned()).await?;
    assert!(
        notes.contains("small: speed factor 1.00: assumed, because a dry run measures nothing"),
        "{notes}"
    );
    assert!(notes.contains("small: image disk: a run puts ") && plan["image_disk"].is_null(), "{notes}");
    assert_eq!(plan["budgets"]["speed_factor"], 1.0);
    assert_eq!(started(work.path()), "");
    assert_eq!(names(&work.path().join("runs"))?, ["cache"]);
    assert_eq!(names(&work.path().join("runs/cache"))?, ["boot"]);

    // The same command without --dry-run does all this, and the next dry run uses its measurement.
    let output = lab(work.path(), words(&run)).await?;
    assert_eq!(output.status.code(), Some(1), "no VM comes up: {}", said(&output));
    assert!(started(work.path()).contains("-kernel"), "{}", started(work.path()));
    assert!(names(&work.path().join("runs"))?.iter().any(|name| name.starts_with("small-")));
    assert!(work.path().join("runs/cache/image-disks").is_dir());
    let before = started(work.path());
    let (_, notes) = dry(work.path().to_owned()).await?;
    assert!(notes.contains("measured by an earlier run"), "{notes}");
    assert_eq!(started(work.path()), before);
    Ok(())
}

#[tokio::test]
async fn ports_that_patches_name_as_mirrors_are_answered_and_a_taken_one_is_told() -> Result<()> {
    let work = without_workloads()?;
    let port = || std::net::TcpListener::bind("127.0.0.1:0");
    let taken = port()?;
    let (taken_port, free_port) = (taken.local_addr()?.port(), port()?.local_addr()?.port());
    let mirror = |port: u16| format!("{{ endpoints: [\"http://10.5.0.1:{port}\"] }}");
    let patch = format!(
        "  patches:\n    all:\n      - machine:\n          registries:\n            mirrors:\n              \
         docker.io: {}\n              quay.io: {}\n",
        mirror(taken_port),
        mirror(free_port)
    );
    fs::write(work.path().join("ports.yaml"), format!("{SMALL}{patch}"))?;
    let qemu = stand_in(work.path())?;
    let run =
        format!("run --pull-through --qemu {} --images images --run-root runs ports.yaml", qemu.display());
    let planned = lab(work.path(), words(&format!("{run} --dry-run"))).await?;
    assert_eq!(planned.status.code(), Some(0), "{}", said(&planned));
    let would =
        format!("a run answers at port {taken_port}, too, as the mirror of docker.io, if the port is free");
    assert!(said(&planned).contains(&would) && !said(&planned).contains("is taken"), "{}", said(&planned));
    assert_eq!(started(work.path()), "", "a dry run starts no QEMU");

    let output = lab(work.path(), words(&run)).await?;
    assert_eq!(output.status.code(), Some(1), "no VM comes up: {}", said(&output));
    assert_ne!(started(work.path()), "");
    let text = recorded(work.path())?;
    let taken =
        format!("port {taken_port}, which the machine configs name as the mirror of docker.io, is taken");
    assert!(text.contains(&taken), "{text}");
    assert!(text.contains(&format!("answers at port {free_port}, too, as the mirror of quay.io")), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_config_that_forms_no_cluster_stops_the_run_before_boot() -> Result<()> {
    let work = tempfile::tempdir()?;
    fs::write(work.path().join("patch.yaml"), "machine:\n  kubelet:\n    registerWithTaint: []\n")?;
    let scenario = "name: wrong-key\ncluster:\n  nodes: [{ name: cp-1, kind: controlplane, role: compute }]\n  \
                    gateways: 0\n  patches:\n    all: [./patch.yaml]\n";
    fs::write(work.path().join("wrong.yaml"), scenario)?;
    let images = built("compute")?;
    let images = images.parent().expect("parent").display();
    let output =
        lab(work.path(), words(&format!("run --images {images} --run-root runs wrong.yaml"))).await?;
    let text = said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("patch.yaml:3:5: error: "), "{text}");
    assert!(text.contains("registerWithTaint"), "{text}");
    assert!(!text.contains("boot …"), "something booted:\n{text}");
    Ok(())
}
