//! A containerd of this host pulls from the registry, as the nodes' own do.
//!
//! It runs in a mount namespace of its own, so that nothing which it mounts to unpack an image is
//! left behind; an ordinary user's needs a user namespace for that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lab_model::{Digest, events::Recorder};
use lab_oci::registry::{Registry, RegistryOptions, Store};
use lab_vm::process::{Process, Processes};
use nix::unistd::geteuid;
use serde_json::Value;
use tokio::{net::UnixDatagram, time::timeout};

use super::{fixture::notes, integrity::flip};

/// How long containerd may take to start, and a pull to end; seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// A containerd that takes images of `registry.k8s.io` from a registry.
struct Containerd {
    // Dropped first: its files must outlive it.
    _process: Process,
    directory: tempfile::TempDir,
}

impl Containerd {
    async fn start(registry: &Registry) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let of = |name: &str| directory.path().join(name);
        let hosts = of("hosts/registry.k8s.io");
        fs::create_dir_all(&hosts)?;
        // As a node has it of a mirror without fallback.
        let at = registry.address();
        let host = format!(
            "server = \"http://{at}\"\n[host.\"http://{at}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(hosts.join("hosts.toml"), host)?;
        fs::write(of("config.toml"), config(directory.path()))?;

        // containerd tells through systemd's protocol (sd_notify) when it can be asked.
        let ready = UnixDatagram::bind(of("ready"))?;
        let log = of("containerd.log");
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "containerd", "--config"]).arg(of("config.toml"));
        command.env("NOTIFY_SOCKET", of("ready")).env("TMPDIR", directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let processes = Processes::new(of("processes"))?;
        let process = processes.spawn("containerd", command).await?;
        let mut state = [0; 64];
        tokio::select! {
            received = timeout(PATIENCE, ready.recv(&mut state)) => {
                let length = received.context("containerd does not become ready")??;
                ensure!(state[..length].starts_with(b"READY=1"), "containerd is not ready: {state:?}");
            }
            status = process.wait() => bail!(
                "containerd ended with {status}: {}; it needs to make a mount namespace, and an ordinary user a user \
                 namespace, too (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu); scripts/setup \
                 installs containerd",
                fs::read_to_string(&log)?.trim()
            ),
        }
        Ok(Self { _process: process, directory })
    }

    /// What `ctr` prints, or its complaint.
    async fn ctr(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = tokio::process::Command::new("ctr");
        command.arg("--address").arg(self.directory.path().join("containerd.sock"));
        command.args(["--namespace", "lab"]).args(arguments).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.context("ctr does not end")??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        let hosts = self.directory.path().join("hosts").display().to_string();
        let how = ["--hosts-dir", &hosts, "--platform", "linux/arm64", "--snapshotter", "native"];
        self.ctr(&[["images", "pull"].as_slice(), &how, &[reference]].concat()).await.map(drop)
    }
}

/// Everything below `directory`, and no plugin that would look elsewhere on the host.
fn config(directory: &Path) -> String {
    let disabled = [
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.internal.v1.opt",
        "io.containerd.nri.v1.nri",
        "io.containerd.snapshotter.v1.aufs",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.erofs",
        "io.containerd.snapshotter.v1.overlayfs",
        "io.containerd.snapshotter.v1.zfs",
    ];
    let path = |name: &str| format!("{:?}", directory.join(name));
    format!(
        "version = 2\nroot = {}\nstate = {}\ndisabled_plugins = {disabled:?}\n[grpc]\naddress = {}\n[ttrpc]\naddress = {}\n",
        path("root"),
        path("state"),
        path("containerd.sock"),
        path("ttrpc.sock"),
    )
}

/// The workload images of the reference node.
fn workloads() -> Result<PathBuf> {
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images/workloads");
    ensure!(layout.join("index.json").is_file(), "no images in {}: make images", layout.display());
    Ok(layout)
}

/// The digests of an image: manifest, config, layers.
fn parts(layout: &Path, reference: &str) -> Result<Vec<Digest>> {
    let store = Store::open(&[layout.to_owned()])?;
    let manifest = store.manifest(reference).with_context(|| format!("{reference} is not built"))?.clone();
    let text = fs::read(layout.join("blobs/sha256").join(manifest.hex()))?;
    let value: Value = serde_json::from_slice(&text)?;
    let layers = value["layers"].as_array().context("layers")?;
    let blobs = std::iter::once(&value["config"]).chain(layers);
    let blobs = blobs.map(|blob| blob["digest"].as_str().and_then(Digest::parse).context("a digest"));
    std::iter::once(Ok(manifest)).chain(blobs).collect()
}

#[tokio::test]
async fn a_containerd_pulls_through_ns_and_has_exactly_the_content() -> Result<()> {
    let layout = workloads()?;
    let recorder = Recorder::new();
    let mut events = recorder.subscribe();
    let options = RegistryOptions { recorder, ..Store::open(std::slice::from_ref(&layout))?.into() };
    let registry = Registry::start(options).await?;
    let containerd = Containerd::start(&registry).await?;
    // Only `?ns=registry.k8s.io` leads to it: without, the registry looks among Docker Hub's images.
    containerd.pull(PAUSE).await?;
    let images = String::from_utf8(containerd.ctr(&["images", "ls"]).await?)?;
    let parts = parts(&layout, PAUSE)?;
    assert!(images.contains(PAUSE) && images.contains(&parts[0].to_string()), "{images}");
    for digest in &parts {
        let content = containerd.ctr(&["content", "get", &digest.to_string()]).await?;
        assert_eq!(Digest::of_bytes(&content), *digest);
    }
    assert!(registry.bytes_served() > 0);
    assert_eq!(notes(&mut events), [""; 0]);

    // An image that is not there. containerd asks by HEAD, whose answers have no words; those of the
    // registry go to the person.
    let error = containerd.pull("registry.k8s.io/nothing:v1").await.expect_err("nothing").to_string();
    assert!(error.contains("registry.k8s.io/nothing:v1: not found"), "{error}");
    let told = notes(&mut events);
    assert!(told[0].contains("registry.k8s.io/nothing:v1 is not in the mirror"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_containerd_is_told_that_a_layer_is_damaged() -> Result<()> {
    let whole = workloads()?;
    let layout = tempfile::tempdir()?;
    fs::create_dir_all(layout.path().join("blobs/sha256"))?;
    fs::copy(whole.join("index.json"), layout.path().join("index.json"))?;
    let parts = parts(&whole, PAUSE)?;
    for digest in &parts {
        let name = Path::new("blobs/sha256").join(digest.hex());
        fs::copy(whole.join(&name), layout.path().join(&name))?;
    }
    flip(layout.path(), parts.last().context("a layer")?)?;
    let registry = super::fixture::serve(layout.path()).await?;
    let containerd = Containerd::start(&registry).await?;
    let error = containerd.pull(PAUSE).await.expect_err("damaged").to_string();
    assert!(error.contains("is damaged: its content has sha256:"), "{error}");
    Ok(())
}
