//! The specification of a VM, as plain data.

use std::path::PathBuf;

use lab_model::{accelerator::CpuModel, network::MacAddr, node::NodeName};
use serde::{Deserialize, Serialize};

use crate::process::CpuShare;

/// The transport of the virtio devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceBus {
    /// virtio-pci: works with every kernel, including Talos.
    #[default]
    Pci,
    /// virtio-mmio: no PCI enumeration; the kernel needs `CONFIG_VIRTIO_MMIO`.
    Mmio,
}

/// Version of the emulated interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GicVersion {
    /// GICv2 under emulation; the host's version under KVM.
    #[default]
    Default,
    /// GICv2, up to eight CPUs.
    V2,
    /// GICv3, needed for more than eight CPUs.
    V3,
}

/// The complete specification of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    pub name: NodeName,
    /// An arm64 `Image` or a gzip of one; QEMU 7.2 loads neither zboot nor UKI.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
    /// Kernel arguments; the arm64 limit is 2048 bytes.
    pub cmdline: String,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// CPU model; usually [`CpuModel::default_for`] the accelerator.
    pub cpu_model: CpuModel,
    pub bus: DeviceBus,
    pub gic: GicVersion,
    /// Raw disk image, the guest's `/dev/vda`. Its cache mode is `unsafe`, because nodes are
    /// disposable.
    pub disk: PathBuf,
    /// A read-only disk with container images, the guest's `/dev/vdb`; VMs may share the file.
    pub image_disk: Option<PathBuf>,
    /// Address of the single network card.
    pub mac: MacAddr,
    /// The switch's socket for this node.
    pub lan_socket: PathBuf,
    /// MTU that the network card offers to the guest, bytes.
    pub mtu: u16,
    /// The share of time in which QEMU runs.
    #[serde(skip)]
    pub cpu_share: CpuShare,
    /// QEMU's nice value: 0, as the lab, to 19.
    #[serde(skip)]
    pub niceness: u8,
    /// Start with the CPUs stopped; [`super::Machine::resume`] starts them.
    pub paused: bool,
    /// Start without initial memory, for [`super::Machine::load`]; the CPUs stay stopped.
    pub incoming: bool,
    /// Directory of the machine's files: `console.log`, `stderr.log`, `command.sh`.
    pub directory: PathBuf,
}

impl MachineSpec {
    /// The raw output of the serial console.
    pub fn console_log(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// QEMU's standard error.
    pub fn stderr_log(&self) -> PathBuf {
        self.directory.join("stderr.log")
    }

    /// A script that starts the same VM manually, with its console on the terminal.
    pub fn command_file(&self) -> PathBuf {
        self.directory.join("command.sh")
    }
}
