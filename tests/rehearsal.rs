//! `lab rehearse` over the reference images in each layout that images were ever published in, out of a registry: the
//! four scenarios, from one command. Takes two minutes a layout where the clusters are warm, so it is a long test.

#[path = "support/command.rs"]
mod command;
#[path = "../lab/assets/fixture.rs"]
#[allow(dead_code, reason = "unit tests need more of it")]
mod fixture;
#[path = "support/oci_layout.rs"]
mod oci_layout;

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use command::{built, said};
use fixture::{disk, pe};
use lab::{
    assets::Digest,
    registry::{Registry, Store},
};
use oci_layout::add;
use serde_json::Value;

/// The boot files of a built image.
struct BootFiles {
    kernel: Vec<u8>,
    initramfs: Vec<u8>,
}

impl BootFiles {
    fn of(role: &str) -> Result<Self> {
        let boot = built(role)?.join("boot");
        Ok(Self { kernel: fs::read(boot.join("vmlinuz"))?, initramfs: fs::read(boot.join("initramfs.xz"))? })
    }

    fn kernel(&self, path: &str) -> (String, Vec<u8>) {
        (path.to_owned(), self.kernel.clone())
    }

    fn initramfs(&self, path: &str) -> (String, Vec<u8>) {
        (path.to_owned(), self.initramfs.clone())
    }

    fn unified(&self) -> Vec<u8> {
        /// ARM64 in the header of a PE file.
        const MACHINE: u16 = 0xaa64;
        let sections: [(&str, &[u8]); 3] =
            [(".linux", &self.kernel), (".initrd", &self.initramfs), (".cmdline", b"talos.platform=metal")];
        pe(MACHINE, &sections)
    }
}

/// Paths and contents within an image.
type Files = Vec<(String, Vec<u8>)>;

/// Adds a checksum file of `files`, which are called `names` in it.
fn summed(mut files: Files, at: &str, names: &[&str]) -> Files {
    let line = |(name, (_, content)): (&&str, &(String, Vec<u8>))| {
        format!("{}  {name}\n", Digest::of_bytes(content).hex())
    };
    let sums: String = names.iter().zip(&files).map(line).collect();
    files.push((at.to_owned(), sums.into_bytes()));
    files
}

type Layout = (&'static str, fn(&BootFiles) -> Result<Files>);

/// What `lab preflight` calls each layout, and an image in it.
const LAYOUTS: [Layout; 8] = [
    ("asset directory", |boot| {
        let [kernel, initramfs] =
            ["vmlinuz", "initramfs.xz"].map(|file| format!("assets/talos/arm64/{file}"));
        let mut files = summed(vec![boot.kernel(&kernel)], &format!("{kernel}.sha256"), &["vmlinuz"]);
        let sums = format!("{initramfs}.sha256");
        files.extend(summed(vec![boot.initramfs(&initramfs)], &sums, &["initramfs.xz"]));
        Ok(files)
    }),
    ("asset directory with boot/", |boot| {
        let below = "assets/talos/arm64";
        let files = vec![
            boot.kernel(&format!("{below}/boot/vmlinuz")),
            boot.initramfs(&format!("{below}/boot/initramfs.xz")),
        ];
        Ok(summed(files, &format!("{below}/checksums.sha256"), &["./boot/vmlinuz", "./boot/initramfs.xz"]))
    }),
    ("matchbox image", |boot| {
        let below = "var/lib/matchbox/assets";
        Ok(vec![boot.kernel(&format!("{below}/vmlinuz")), boot.initramfs(&format!("{below}/initramfs.xz"))])
    }),
    ("installer image with a unified kernel image", |boot| {
        Ok(vec![("usr/install/arm64/vmlinuz.efi".to_owned(), boot.unified())])
    }),
    ("installer image", |boot| {
        let below = "usr/install/arm64";
        Ok(vec![boot.kernel(&format!("{below}/vmlinuz")), boot.initramfs(&format!("{below}/initramfs.xz"))])
    }),
    ("build output", |boot| {
        Ok(vec![
            boot.kernel("_out/assets/kernel-arm64"),
            boot.initramfs("_out/assets/initramfs-metal-arm64.xz"),
        ])
    }),
    ("release files", |boot| {
        let variant = "arm64-cozystack-talos-v1.13.5-cozy-v1";
        let [kernel, initramfs] =
            [format!("talos-kernel-{variant}"), format!("talos-initramfs-{variant}.xz")];
        let files = vec![boot.kernel(&kernel), boot.initramfs(&initramfs)];
        Ok(summed(files, "SHA256SUMS", &[&kernel, &initramfs]))
    }),
    ("disk image: UKI Talos-v1.13.5.efi in the EFI system partition", |boot| {
        let unified = boot.unified();
        let system: [(&str, &[u8]); 2] =
            [("EFI/boot/BOOTAA64.efi", b"systemd-boot"), ("EFI/Linux/Talos-v1.13.5.efi", &unified)];
        let raw = disk(&system, &[("META", &[0; 1 << 20])]);
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new(&raw[..], 0).read_to_end(&mut packed)?;
        Ok(vec![("_out/assets/metal-arm64.raw.xz".to_owned(), packed)])
    }),
];

#[tokio::test]
#[ignore = "long: `make test-long` runs it"]
async fn images_in_every_layout_pass_a_rehearsal() -> Result<()> {
    let roles = [("compute", BootFiles::of("compute")?), ("gateway", BootFiles::of("gateway")?)];
    for (layout, files_of) in LAYOUTS {
        let work = tempfile::tempdir()?;
        let images = work.path().join("layout");
        for (role, boot) in &roles {
            let files = files_of(boot)?;
            let files: Vec<_> =
                files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
            add(&images, &format!("{role}:v1"), &files)?;
        }
        let registry = Registry::start(Store::open(&[images])?).await?;
        let began = Instant::now();
        rehearsed(work.path(), layout, &registry.address().to_string())
            .await
            .with_context(|| format!("a rehearsal of images in the layout \"{layout}\""))?;
        // Nobody is waiting for it.
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
