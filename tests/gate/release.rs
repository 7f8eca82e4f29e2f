//! A small release in a registry of the test's own: two roles, a board, two container images, a chart's values and a
//! document. Tests change one part of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use lab_image_fixtures::{
    BUILD_KEY, KERNEL_RELEASE, KERNEL_VERMAGIC, SigningKey, SmallNode, device_tree, elf, module,
};
use lab_model::Digest;
use lab_oci::{
    images::{Descriptor, LAYER_TYPE, Layout},
    registry::{Registry, Store},
};
use serde_json::{Value, json};

/// The tag of the release.
pub const TAG: &str = "v1.5.1-1.13.5-4";
/// The tag of the release before.
const BEFORE: &str = "v1.5.1-1.13.5-3";
const CONTAINERD_2: &str = "io.containerd.cri.v1.runtime";

/// The files of a layer, with their modes.
type Files = Vec<(String, u32, Vec<u8>)>;

/// A release that is good unless a test changes it.
#[derive(Clone)]
pub struct Release {
    drbd: Vec<u8>,
    drbd_range: String,
    spin_part: String,
    shim: Vec<u8>,
    tailscale: String,
    installer_kernel: Option<Vec<u8>>,
    installer_has_spin: bool,
    gateway_is_compute: bool,
    is_alias: bool,
    previous: String,
    app: Vec<(String, Vec<u8>)>,
    architecture: String,
    other_digest: bool,
    devices: Vec<String>,
    files: BTreeMap<String, String>,
    missing: Option<String>,
    key: Option<String>,
    signer: Option<SignatureOf>,
}

/// Signs the payload of a signature.
type SignatureOf = std::sync::Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

impl Release {
    pub fn good() -> Self {
        let part = format!(
            "[plugins.\"{CONTAINERD_2}\".containerd.runtimes.spin]\nruntime_type = \"io.containerd.spin.v2\"\n"
        );
        let config = "machine:\n  kernel:\n    modules:\n      - name: drbd\n";
        Self {
            drbd: BUILD_KEY.sign(&module("drbd", KERNEL_VERMAGIC, &["lru_cache"], &[])),
            drbd_range: ">= v1.8.0".into(),
            spin_part: part,
            shim: elf(183),
            tailscale: "/usr/local/bin/containerboot".into(),
            installer_kernel: None,
            installer_has_spin: true,
            gateway_is_compute: false,
            is_alias: false,
            previous: BEFORE.into(),
            app: vec![("app".into(), elf(183))],
            architecture: "arm64".into(),
            other_digest: false,
            devices: vec!["test,base".into()],
            files: [("compute.yaml".to_owned(), config.to_owned())].into(),
            missing: None,
            key: None,
            signer: None,
        }
    }

    pub fn drbd(self, module: &[u8]) -> Self {
        Self { drbd: module.to_vec(), ..self }
    }

    pub fn signed_drbd(self, module: &[u8]) -> Self {
        Self { drbd: BUILD_KEY.sign(module), ..self }
    }

    pub fn drbd_range(self, range: &str) -> Self {
        Self { drbd_range: range.into(), ..self }
    }

    pub fn spin(self, part: &str, shim: &[u8]) -> Self {
        Self { spin_part: part.into(), shim: shim.to_vec(), ..self }
    }

    pub fn tailscale(self, entrypoint: &str) -> Self {
        Self { tailscale: entrypoint.into(), ..self }
    }

    pub fn installer_kernel(self, kernel: Vec<u8>) -> Self {
        Self { installer_kernel: Some(kernel), ..self }
    }

    pub fn without_spin_in_installer(self) -> Self {
        Self { installer_has_spin: false, ..self }
    }

    pub fn gateway_is_compute(self) -> Self {
        Self { gateway_is_compute: true, ..self }
    }

    /// Gives the release before the compute image of this release.
    pub fn alias_of_before(self) -> Self {
        Self { is_alias: true, ..self }
    }

    pub fn previous(self, tag: &str) -> Self {
        Self { previous: tag.into(), ..self }
    }

    /// Replaces the programs of the container image `api`. It has a wrapper `/start.sh`, which starts `/app`.
    pub fn api(self, programs: &[(&str, &[u8])]) -> Self {
        Self {
            app: programs.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect(),
            ..self
        }
    }

    pub fn api_architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.into(), ..self }
    }

    /// Writes the digest of another build into the values of the chart.
    pub fn other_digest_in_values(self) -> Self {
        Self { other_digest: true, ..self }
    }

    /// Requires another device of the board.
    pub fn device(mut self, compatible: &str) -> Self {
        self.devices.push(compatible.into());
        self
    }

    /// Adds or replaces a file beside the release file.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.into(), text.into());
        self
    }

    pub fn without_image(self, name: &str) -> Self {
        Self { missing: Some(name.into()), ..self }
    }

    pub fn requires_signatures(self, key: &SigningKey) -> Self {
        Self { key: Some(key.public_pem()), ..self }
    }

    pub fn signed_by(self, key: &SigningKey) -> Self {
        let key = key.clone();
        Self { signer: Some(std::sync::Arc::new(move |message| key.signature(message))), ..self }
    }

    fn node(&self, has_spin: bool, has_tailscale: bool) -> SmallNode {
        let directory = format!("usr/lib/modules/{KERNEL_RELEASE}");
        let drbd = format!(
            "name: drbd, version: v9.2, compatibility: {{talos: {{version: '{}'}}}}",
            self.drbd_range
        );
        let list = b"kernel/base.ko:\nextra/drbd.ko:\n";
        let mut node = SmallNode::default().extension(
            &drbd,
            &[
                (&format!("{directory}/extra/drbd.ko"), &self.drbd),
                (&format!("{directory}/modules.dep"), list),
            ],
        );
        if has_spin {
            let shim = "usr/local/bin/containerd-shim-spin-v2";
            let files = [("etc/cri/conf.d/10-spin.part", self.spin_part.as_bytes()), (shim, &self.shim)];
            node = node.extension("name: spin, version: v0.22", &files);
        }
        if has_tailscale {
            let spec = format!(
                "name: tailscale\ncontainer:\n  entrypoint: {}\n  mounts: [{{ source: /var/lib, destination: /var/lib }}]\n",
                self.tailscale
            );
            let program = "usr/local/lib/containers/tailscale/usr/local/bin/containerboot";
            let files =
                [("usr/local/etc/containers/tailscale.yaml", spec.as_bytes()), (program, &elf(183)[..])];
            node = node.extension("name: tailscale, version: v1.90", &files);
        }
        node
    }

    /// Fills a registry, and writes the release file.
    pub async fn serve(self) -> Result<Served> {
        let work = tempfile::tempdir()?;
        let images = Images { layout: Layout::new(work.path().join("layout")), config: json!({}) };
        let mut digests = BTreeMap::new();
        for (name, tag, descriptor) in self.images(&images)? {
            if self.missing.as_ref() == Some(&name) {
                continue;
            }
            if let Some(sign) = &self.signer {
                images.sign(&name, &descriptor, sign)?;
            }
            digests.insert(format!("{name}:{tag}"), descriptor.digest.clone());
            images.list(&name, &tag, descriptor)?;
        }
        let registry = Registry::start(Store::open(&[work.path().join("layout")])?).await?;
        let at = registry.address().to_string();
        let own = |name: &str| format!("{at}/you/{name}:{TAG}");
        let digest = |name: &str| digests.get(&format!("{name}:{TAG}")).cloned().unwrap_or_default();
        let web =
            if self.other_digest { Digest::of_bytes(b"other build").to_string() } else { digest("web") };
        let mut files = BTreeMap::from([
            ("values.yaml".to_owned(), format!("web: {}@{web}\n", own("web"))),
            ("README.md".to_owned(), format!("Install `{}@{}`.\n", own("compute"), digest("compute"))),
        ]);
        files.extend(self.files.clone());
        if let Some(key) = &self.key {
            files.insert("cosign.pub".into(), key.clone());
        }
        files.insert("release.yaml".into(), self.text(&at));
        for (name, text) in files {
            fs::write(work.path().join(name), text)?;
        }
        Ok(Served { work, _registry: Some(registry), at })
    }

    /// The images: name, tag and manifest.
    fn images(&self, images: &Images) -> Result<Vec<(String, String, Descriptor)>> {
        let compute = self.node(true, false);
        let gateway = if self.gateway_is_compute { compute.clone() } else { self.node(true, true) };
        let mut installer = self.node(self.installer_has_spin, false);
        if let Some(kernel) = &self.installer_kernel {
            installer = installer.kernel(kernel.clone());
        }
        let board = self.node(true, false).root("etc/board", b"rpi5");
        let tree = device_tree(&[("mmc", "test,base", "okay"), ("nic", "vendor,nic", "")]);
        let asset = |node: &SmallNode| boot_files(node, "assets/talos/arm64");
        let install = |node: &SmallNode| boot_files(node, "usr/install/arm64");
        let mut of_board = install(&board);
        of_board.push(("usr/install/arm64/dtb/bcm2712-rpi-5-b.dtb".into(), 0o644, tree));
        let start: Files = vec![("start.sh".into(), 0o755, b"#!/bin/sh\nexec /app \"$@\"\n".to_vec())];
        let app = self.app.iter().map(|(path, content)| (path.clone(), 0o755, content.clone()));
        let shell: Files = vec![("bin/sh".into(), 0o755, elf(183))];
        let api = [shell, start.into_iter().chain(app).collect()];
        let api_config = images.with(&self.architecture, json!({ "Entrypoint": ["/start.sh"] }));
        let node = |files: Files| images.with("arm64", json!({})).image(&[files]);
        let web: Files = vec![("index.html".into(), 0o644, b"<html>".to_vec())];
        let board_tag = format!("{TAG}-rpi5");
        let mut all = vec![
            ("compute", TAG, node(asset(&compute))?),
            ("gateway", TAG, node(asset(&gateway))?),
            ("installer", TAG, node(install(&installer))?),
            ("installer", &board_tag, node(of_board)?),
            ("api", TAG, api_config.image(&api)?),
            ("web", TAG, node(web)?),
        ];
        if self.is_alias {
            all.push(("compute", BEFORE, all[0].2.clone()));
        }
        Ok(all.into_iter().map(|(name, tag, image)| (name.to_owned(), tag.to_owned(), image)).collect())
    }

    /// The text of the release file.
    fn text(&self, at: &str) -> String {
        let own = |name: &str| format!("{at}/you/{name}:{TAG}");
        let (compute, gateway, installer, api) =
            (own("compute"), own("gateway"), own("installer"), own("api"));
        let devices = serde_json::to_string(&self.devices).unwrap_or_default();
        let provenance = match &self.key {
            Some(_) => "provenance: { key: cosign.pub, require: [signatures] }\n",
            None => "",
        };
        format!(
            "release: {TAG}
previous: {}
registry: {at}/you
roles:
  compute: {{ extensions: [drbd, spin] }}
  gateway: {{ extensions: [drbd, spin, tailscale] }}
boards:
  rpi5: {{ deviceTrees: [bcm2712-rpi-5-b.dtb], devices: {devices} }}
nodes:
  - {{ role: compute, image: '{compute}', installer: '{installer}' }}
  - {{ role: gateway, image: '{gateway}' }}
  - {{ role: compute, board: rpi5, installer: '{installer}-rpi5' }}
containers: {{ images: ['{api}'], manifests: [values.yaml] }}
documents: [README.md]
configs: {{ compute: [compute.yaml] }}
{provenance}",
            self.previous
        )
    }
}

fn boot_files(node: &SmallNode, directory: &str) -> Files {
    let boot = node.boot_files();
    [("vmlinuz", boot.kernel), ("initramfs.xz", boot.initramfs)]
        .map(|(name, content)| (format!("{directory}/{name}"), 0o644, content))
        .into()
}

/// Writes images into a layout.
struct Images {
    layout: Layout,
    config: Value,
}

impl Images {
    fn with(&self, architecture: &str, command: Value) -> Self {
        let config = json!({ "architecture": architecture, "os": "linux", "config": command, "rootfs": { "type": "layers", "diff_ids": [] } });
        Self { layout: self.layout.clone(), config }
    }

    fn image(&self, layers: &[Files]) -> Result<Descriptor> {
        let layers = layers.iter().map(|files| {
            let mut layer = tar::Builder::new(Vec::new());
            for (path, mode, content) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(*mode);
                layer.append_data(&mut header, path, &content[..])?;
            }
            Ok(self.layout.put(LAYER_TYPE, &layer.into_inner()?)?)
        });
        Ok(self.layout.put_image(&self.config, &layers.collect::<Result<Vec<_>>>()?)?)
    }

    fn list(&self, name: &str, tag: &str, image: Descriptor) -> Result<()> {
        Ok(self.layout.list(image.named(format!("docker.io/you/{name}:{tag}")))?)
    }

    /// Adds a signature as cosign does.
    fn sign(&self, name: &str, image: &Descriptor, sign: &SignatureOf) -> Result<()> {
        let payload = json!({ "critical": { "identity": { "docker-reference": "" }, "image": { "docker-manifest-digest": image.digest }, "type": "cosign container image signature" }, "optional": null }).to_string();
        let mut layer =
            self.layout.put("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes())?;
        let signature = STANDARD.encode(sign(payload.as_bytes()));
        layer.annotations.insert("dev.cosignproject.cosign/signature".into(), signature);
        let manifest = self.layout.put_image(&json!({}), &[layer])?;
        let tag = format!("{}.sig", image.digest.replace(':', "-"));
        self.list(name, &tag, manifest)
    }
}

/// A release in a registry, and its file.
pub struct Served {
    work: tempfile::TempDir,
    _registry: Option<Registry>,
    at: String,
}

impl Served {
    /// Runs the gate over the release.
    pub async fn gate(&self, arguments: &[&str]) -> Result<Output> {
        let own = ["gate", "--cache", "cache", "release.yaml"];
        self.lab(own.iter().chain(arguments).map(|word| (*word).to_owned()).collect()).await
    }

    /// Runs a command in the directory of the release. The registry answers meanwhile.
    pub async fn lab(&self, arguments: Vec<String>) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.current_dir(self.work.path()).args(arguments).env_remove("GITHUB_STEP_SUMMARY");
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub fn reference(&self, name: &str) -> String {
        format!("{}/you/{name}:{TAG}", self.at)
    }

    /// The number of parts: four node images and two container images.
    pub fn parts(&self) -> usize {
        6
    }

    /// Stops the registry.
    pub fn stopped(self) -> Self {
        Self { _registry: None, ..self }
    }

    /// The rules that may report errors when the subject of a rule is broken.
    pub fn consequences<'a>(&self, rule: &'a str) -> BTreeSet<&'a str> {
        let others: &[&str] = match rule {
            "architecture" => &["runtime-programs"],
            "distinct" | "stale-tag" => &["extension-set"],
            "extension-set" => &["one-build"],
            "document-digests" => &["readable"],
            _ => &[],
        };
        others.iter().copied().chain([rule]).collect()
    }
}
