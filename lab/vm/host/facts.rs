//! Host probes of `lab doctor`. This module does not evaluate the results.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

use super::memory::{HostMemory, host_memory};
use crate::machine::{HostPlatform, QemuBinary};

/// Facts about the host. Plain data: tests construct it instead of probing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Operating system, architecture, `/dev/kvm`.
    pub platform: HostPlatform,
    /// Cores available to the lab.
    pub cores: usize,
    /// The QEMU binary, or the reason why no usable binary exists.
    pub qemu: Result<QemuBinary, String>,
    /// Memory, or the reason why it is unknown.
    pub memory: Result<HostMemory, String>,
    /// The directory that contains the runs.
    pub runs: PathBuf,
    /// Disk space in `runs` that this user can still use, in MiB, or the reason why it is unknown.
    pub disk_free_mib: Result<u64, String>,
    /// The directory for sockets.
    pub socket_base: PathBuf,
    /// Whether a directory and a unix socket can be created in `socket_base`, or the reason why not.
    pub socket_works: Result<(), String>,
    /// The programs that the image build needs, with their paths if found.
    pub tools: BTreeMap<&'static str, Option<PathBuf>>,
    /// Go's version text (`go1.26.8`), if Go was found and `go version` succeeded.
    pub go_version: Option<String>,
    pub images: ImagesFound,
}

/// The images of the reference node, as the caller found them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagesFound {
    /// Each image can be used. The text says where they are, and where they come from.
    Usable(String),
    /// There are none, with the reason.
    Absent(String),
    /// An image cannot be used, with the reason.
    Damaged(String),
}

/// The programs that the image build runs.
pub(super) const IMAGE_TOOLS: [&str; 4] = ["go", "mmdebstrap", "mksquashfs", "depmod"];

impl Facts {
    /// Probes this host. The lab keeps its runs in `runs`, and `images` is what the caller found of its images. Starts
    /// QEMU once without a machine, and runs `go version`; takes a fraction of a second.
    pub async fn probe(runs: &Path, images: ImagesFound) -> Self {
        let tools: BTreeMap<_, _> = IMAGE_TOOLS.into_iter().map(|tool| (tool, find_tool(tool))).collect();
        let go_version = tools["go"].as_deref().and_then(go_version);
        let (socket_base, socket_works) = try_socket();
        Self {
            platform: HostPlatform::current(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            qemu: QemuBinary::find(None).await.map_err(|error| error.to_string()),
            memory: host_memory().map_err(|error| error.to_string()),
            disk_free_mib: disk_free_mib(runs),
            images,
            runs: runs.to_owned(),
            socket_base,
            socket_works,
            tools,
            go_version,
        }
    }
}

/// Finds a program in `PATH`, or in the `sbin` directories that are missing from an ordinary user's
/// `PATH`.
fn find_tool(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|d| d.join(program)).find(|file| file.is_file())
}

/// Runs outside the project, where no `go.mod` can make Go download another toolchain first.
fn go_version(go: &Path) -> Option<String> {
    let output = Command::new(go).args(["env", "GOVERSION"]).current_dir("/").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// Free space in `place`, or in its nearest existing parent directory.
fn disk_free_mib(place: &Path) -> Result<u64, String> {
    let absolute = std::path::absolute(place).map_err(|error| error.to_string())?;
    let existing = absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(existing)
        .map_err(|errno| format!("asking for the space at {} failed: {errno}", existing.display()))?;
    #[expect(clippy::useless_conversion, reason = "block counts have 32 bits on macOS")]
    let blocks = u64::from(stat.blocks_available());
    Ok(blocks.saturating_mul(stat.fragment_size()) >> 20)
}

/// Creates the same objects as a run: a private directory and a socket in it. The path is as long as
/// with a long node name.
fn try_socket() -> (PathBuf, Result<(), String>) {
    let attempt = || {
        let directory = crate::process::SocketDirectory::create()?;
        let socket = directory.socket(&"s".repeat(40))?;
        std::os::unix::net::UnixListener::bind(&socket)?;
        Ok::<_, std::io::Error>(directory.path().parent().map(Path::to_owned).unwrap_or_default())
    };
    match attempt() {
        Ok(base) => (base, Ok(())),
        Err(error) => (std::env::temp_dir(), Err(error.to_string())),
    }
}
