//! The release gate through the command line: a good release in a registry of the test's own, and one fault at a time.

#[path = "support/command.rs"]
mod command;
#[path = "gate/release.rs"]
mod release;

use std::{collections::BTreeSet, fs, process::Output};

use anyhow::{Context, Result, ensure};
use lab_image_fixtures::{BUILD_KEY, KERNEL_RELEASE, KERNEL_VERMAGIC, SigningKey, elf, kernel_with, module};
use lab_oci::{
    images::Layout,
    registry::{Registry, Store},
};
use release::{Release, TAG};
use serde_json::Value;

use command::{built, said};

/// The errors of a verdict: rule, place, cause and remedy.
fn errors(output: &Output) -> Result<Vec<[String; 4]>> {
    let verdict: Value = serde_json::from_slice(&output.stdout).with_context(|| said(output))?;
    let findings = verdict["findings"].as_array().context("findings")?;
    let errors = findings.iter().filter(|finding| finding["severity"] == "error");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |place: &Value| place["line"].as_u64().map_or_else(String::new, |line| format!(":{line}"));
    Ok(errors
        .map(|finding| {
            let place = format!("{}{}", text(&finding["file"]), line(&finding["place"]));
            [text(&finding["rule"]), place, text(&finding["message"]), text(&finding["help"])]
        })
        .collect())
}

#[tokio::test]
async fn a_good_release_has_no_finding_and_every_rule_has_looked() -> Result<()> {
    let served = Release::good().serve().await?;
    let output = served.gate(&["--json", "--ledger", "ledger.json", "--markdown", "gate.md"]).await?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let verdict: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(verdict["findings"].to_string(), "[]");
    for rule in verdict["rules"].as_array().context("rules")? {
        // The builds of the test have no time, and nothing signs them.
        let may_be_idle = ["age", "provenance"].contains(&rule["rule"].as_str().unwrap_or_default());
        assert!(may_be_idle || rule["subjects"].as_u64() > Some(0), "looked at nothing: {rule}");
    }
    let ledger: Value = serde_json::from_slice(&fs::read(served.path("ledger.json"))?)?;
    let parts = ledger["parts"].as_array().context("parts")?;
    assert_eq!(parts.len(), served.parts());
    assert!(
        parts.iter().all(|part| part["digest"].as_str().is_some_and(|digest| digest.len() == 71)),
        "{ledger}"
    );
    let markdown = fs::read_to_string(served.path("gate.md"))?;
    assert!(markdown.contains("| compute/metal image |"), "{markdown}");

    // The second time, nothing is fetched again, and the ledger shows no change.
    let again = served.gate(&["--against", "ledger.json"]).await?;
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(!said(&again).contains("changed: "), "{}", said(&again));
    Ok(())
}

/// A fault: what is broken, the rule that tells it, and parts of its place and of its cause.
struct Fault {
    name: &'static str,
    breaks: fn(Release) -> Release,
    rule: &'static str,
    place: &'static str,
    cause: &'static str,
}

fn spin_part(plugin: &str) -> String {
    format!("[plugins.\"{plugin}\".containerd.runtimes.spin]\nruntime_type = \"io.containerd.spin.v2\"\n")
}

static FAULTS: [Fault; 18] = [
    Fault {
        name: "the modules of an extension are signed by another build",
        breaks: |release| {
            release.drbd(&SigningKey::new("other build").sign(&module("drbd", KERNEL_VERMAGIC, &[], &[])))
        },
        rule: "module-signature",
        place: "layer 0.sqsh",
        cause: "signed by CN=other build",
    },
    Fault {
        name: "a module is for another kernel",
        breaks: |release| {
            release.signed_drbd(&module("drbd", "6.12.4-talos SMP preempt mod_unload aarch64", &[], &[]))
        },
        rule: "module-kernel",
        place: "layer 0.sqsh",
        cause: "was built for 6.12.4-talos",
    },
    Fault {
        name: "a module needs another that nothing has",
        breaks: |release| release.signed_drbd(&module("drbd", KERNEL_VERMAGIC, &["libcrc32c"], &[])),
        rule: "module-dependencies",
        place: "layer 0.sqsh",
        cause: "needs the module libcrc32c",
    },
    Fault {
        name: "a machine config loads a module that the image lacks",
        breaks: |release| release.file("compute.yaml", "machine: { kernel: { modules: [{ name: zfs }] } }\n"),
        rule: "module-config",
        place: "compute.yaml:1",
        cause: "loads the module zfs",
    },
    Fault {
        name: "an amd64 program in an arm64 container image",
        breaks: |release| release.api(&[("app", &elf(62))]),
        rule: "container-programs",
        place: "/you/api:",
        cause: "the entrypoint leads to /app (/start.sh → /app), which is for amd64",
    },
    Fault {
        name: "a config that says amd64",
        breaks: |release| release.api_architecture("amd64"),
        rule: "container-platform",
        place: "/you/api:",
        cause: "its config says linux/amd64",
    },
    Fault {
        name: "an amd64 program in an extension",
        breaks: |release| release.spin(&spin_part("io.containerd.cri.v1.runtime"), &elf(62)),
        rule: "architecture",
        place: "layer 1.sqsh",
        cause: "containerd-shim-spin-v2 is for amd64",
    },
    Fault {
        name: "a section that the containerd of the image does not read",
        breaks: |release| release.spin(&spin_part("io.containerd.grpc.v1.cri"), &elf(183)),
        rule: "containerd-sections",
        place: "etc/cri/conf.d/10-spin.part",
        cause: "which containerd 2 (usr/bin/containerd) does not read",
    },
    Fault {
        name: "a service whose program is not in its root",
        breaks: |release| release.tailscale("/usr/local/bin/containerbooot"),
        rule: "extension-services",
        place: "usr/local/etc/containers/tailscale.yaml",
        cause: "the entrypoint /usr/local/bin/containerbooot is not in",
    },
    Fault {
        name: "an extension for another Talos",
        breaks: |release| release.drbd_range("< v1.13.0"),
        rule: "extension-compatibility",
        place: "extension drbd",
        cause: "is for Talos < v1.13.0",
    },
    Fault {
        name: "an installer without an extension",
        breaks: Release::without_spin_in_installer,
        rule: "extension-set",
        place: "compute/metal installer",
        cause: "lacks the extension spin",
    },
    Fault {
        name: "an installer with another kernel",
        breaks: |release| {
            let kernel = [kernel_with(KERNEL_RELEASE, &[&BUILD_KEY]), vec![1]].concat();
            release.installer_kernel(kernel)
        },
        rule: "one-build",
        place: "compute/metal installer",
        cause: "has another build of the kernel 6.12.5-talos",
    },
    Fault {
        name: "both roles were pushed from one build",
        breaks: Release::gateway_is_compute,
        rule: "distinct",
        place: "gateway/metal image",
        cause: "has the same kernel and initramfs",
    },
    Fault {
        name: "a tag that is an alias of the release before",
        breaks: Release::alias_of_before,
        rule: "stale-tag",
        place: "compute/metal image",
        cause: "of the release before",
    },
    Fault {
        name: "a revision that went backwards",
        breaks: |release| release.previous("v1.5.1-1.13.5-12"),
        rule: "revision",
        place: "release.yaml",
        cause: "v1.5.1-1.13.5-4 is not newer than v1.5.1-1.13.5-12",
    },
    Fault {
        name: "an unfilled digest",
        breaks: |release| {
            release.file("README.md", "talosctl upgrade --image you/compute@IMAGE_DIGEST_COMPUTE\n")
        },
        rule: "placeholders",
        place: "README.md:1",
        cause: "the placeholder IMAGE_DIGEST_COMPUTE is not filled",
    },
    Fault {
        name: "a manifest with the digest of another build",
        breaks: Release::other_digest_in_values,
        rule: "document-digests",
        place: "values.yaml:1",
        cause: "in the registry, and sha256:",
    },
    Fault {
        name: "a board whose device has no driver",
        breaks: |release| release.device("vendor,nic"),
        rule: "boards",
        place: "compute/rpi5 installer",
        cause: "the device vendor,nic has no driver",
    },
];

#[tokio::test]
async fn each_fault_is_told_with_its_cause_its_place_and_a_remedy() -> Result<()> {
    for Fault { name, breaks, rule, place, cause } in &FAULTS {
        let served = breaks(Release::good()).serve().await?;
        let output = served.gate(&["--json"]).await?;
        ensure!(output.status.code() == Some(1), "{name}: {}", said(&output));
        let errors = errors(&output)?;
        let told =
            errors.iter().find(|[by, at, why, _]| by == rule && at.contains(place) && why.contains(cause));
        let [_, _, _, remedy] = told.with_context(|| format!("{name}: {errors:#?}"))?;
        ensure!(!remedy.is_empty(), "{name}: no remedy");
        // A fault may have consequences, and no others.
        let rules: BTreeSet<_> = errors.iter().map(|[rule, ..]| rule.as_str()).collect();
        let expected = served.consequences(rule);
        ensure!(rules.is_subset(&expected), "{name}: {rules:?} instead of {expected:?}: {errors:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_part_that_the_registry_lacks_and_a_registry_that_does_not_answer_are_errors() -> Result<()> {
    let served = Release::good().without_image("api").serve().await?;
    let output = served.gate(&["--json"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let errors = errors(&output)?;
    assert!(
        errors.iter().any(|[rule, place, why, _]| rule == "readable"
            && place.contains("/you/api:")
            && why.contains("the registry has no")),
        "{errors:#?}"
    );

    let gone = Release::good().serve().await?.stopped();
    let output = gone.gate(&["--json"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(errors_of(&output, "readable")? >= gone.parts(), "{}", said(&output));
    Ok(())
}

fn errors_of(output: &Output, rule: &str) -> Result<usize> {
    Ok(errors(output)?.iter().filter(|[by, ..]| by == rule).count())
}

#[tokio::test]
async fn a_ledger_shows_what_changed_since_the_release_before() -> Result<()> {
    let before = Release::good().serve().await?;
    before.gate(&["--ledger", "ledger.json"]).await?;
    let after = Release::good().drbd_range(">= v1.12.0").serve().await?;
    fs::copy(before.path("ledger.json"), after.path("before.json"))?;
    let output = after.gate(&["--against", "before.json"]).await?;
    let text = said(&output);
    assert!(text.contains("changed: compute/metal image: digest sha256:"), "{text}");
    fs::write(after.path("before.json"), "{}")?;
    let refused = after.gate(&["--against", "before.json"]).await?;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    Ok(())
}

#[tokio::test]
async fn a_first_release_file_is_written_from_two_references_and_passes() -> Result<()> {
    let served = Release::good().serve().await?;
    let (compute, gateway) = (served.reference("compute"), served.reference("gateway"));
    let init = ["gate", "init", "--cache", "cache", "--out", "first.yaml"].map(str::to_owned);
    let images = [format!("compute={compute}"), format!("gateway={gateway}")];
    let written = served.lab(init.into_iter().chain(images).collect()).await?;
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    let text = fs::read_to_string(served.path("first.yaml"))?;
    assert!(text.contains(&format!("release: {TAG}\n")), "{text}");
    let gate = ["gate", "--cache", "cache", "first.yaml"].map(str::to_owned).to_vec();
    let output = served.lab(gate).await?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn signatures_are_required_and_verified_with_the_key_of_the_release() -> Result<()> {
    let key = SigningKey::new("release");
    let unsigned = Release::good().requires_signatures(&key).serve().await?.gate(&["--json"]).await?;
    assert!(errors_of(&unsigned, "provenance")? > 0, "{}", said(&unsigned));
    let signed =
        Release::good().requires_signatures(&key).signed_by(&key).serve().await?.gate(&["--json"]).await?;
    assert_eq!(signed.status.code(), Some(0), "{}", said(&signed));
    let other = SigningKey::new("other");
    let forged =
        Release::good().requires_signatures(&key).signed_by(&other).serve().await?.gate(&["--json"]).await?;
    assert!(
        errors(&forged)?
            .iter()
            .any(|[rule, _, why, _]| rule == "provenance" && why.contains("not by the key of the release")),
        "{}",
        said(&forged)
    );
    Ok(())
}

/// The layout of the workload images under names that a registry without an upstream has.
fn workloads(to: &std::path::Path) -> Result<Vec<String>> {
    let from = Layout::new(built("compute")?.with_file_name("workloads"));
    let layout = Layout::new(to);
    fs::create_dir_all(to)?;
    std::os::unix::fs::symlink(from.directory().join("blobs"), to.join("blobs"))?;
    let mut names = Vec::new();
    let mut images = Vec::new();
    for image in from.images()? {
        let name = image.name().context("a name")?.to_owned();
        let (_, name) = name.split_once('/').context("a registry")?;
        names.push(name.to_owned());
        images.push(image.named(format!("docker.io/{name}")));
    }
    layout.write_index(&images)?;
    Ok(names)
}

#[tokio::test]
async fn the_reference_node_and_its_workloads_pass_the_gate() -> Result<()> {
    let work = tempfile::tempdir()?;
    let names = workloads(&work.path().join("layout"))?;
    let registry = Registry::start(Store::open(&[work.path().join("layout")])?).await?;
    let at = registry.address();
    let images: Vec<_> = names.iter().map(|name| format!("'{at}/{name}'")).collect();
    let node = |role: &str| {
        Ok::<_, anyhow::Error>(format!("  - {{ role: {role}, image: '{}' }}\n", built(role)?.display()))
    };
    // The reference node is not Talos, and its agent translates the sections of parts for containerd 1.
    let text = format!(
        "release: reference
talos: v1.13.9
roles:
  compute: {{ extensions: [drbd, spin] }}
  gateway: {{ extensions: [drbd, spin, tailscale] }}
nodes:
{}{}containers: {{ images: [{}] }}
accept:
  - {{ rule: talos-version, where: target/images, because: it is not Talos }}
  - {{ rule: containerd-sections, where: 10-spin.part, because: the agent translates it }}
",
        node("compute")?,
        node("gateway")?,
        images.join(", ")
    );
    fs::write(work.path().join("release.yaml"), text)?;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lab"));
    command.current_dir(work.path()).args(["gate", "--cache", "cache", "--json", "release.yaml"]);
    command.env_remove("GITHUB_STEP_SUMMARY");
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let verdict: Value = serde_json::from_slice(&output.stdout)?;
    let subjects = |name: &str| {
        let rules = verdict["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        rules.iter().find(|rule| rule["rule"] == name).and_then(|rule| rule["subjects"].as_u64())
    };
    for rule in
        ["architecture", "container-programs", "module-kernel", "module-dependencies", "extension-services"]
    {
        assert!(subjects(rule) > Some(0), "{rule} looked at nothing: {verdict:#}");
    }
    Ok(())
}

#[test]
fn the_release_file_of_the_container_image_is_one() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/release.yaml");
    let release = lab_gate::release::Release::read(&file, &lab_gate::rules::names()).expect("a release file");
    assert_eq!((release.nodes.len(), release.containers.len()), (2, 1));
}
