//! What a VM is made of, as plain data.

use std::path::PathBuf;

use lab_model::{accelerator::CpuModel, network::MacAddr, node::NodeName};
use serde::{Deserialize, Serialize};

/// How the virtio devices are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceBus {
    /// virtio-pci: works with every kernel, Talos' included.
    #[default]
    Pci,
    /// virtio-mmio: no PCI enumeration; the kernel needs `CONFIG_VIRTIO_MMIO`.
    Mmio,
}

/// Version of the emulated interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GicVersion {
    /// GICv2 under emulation; what the host has under KVM.
    #[default]
    Default,
    /// GICv2, up to eight CPUs.
    V2,
    /// GICv3, needed for more than eight CPUs.
    V3,
}

/// One VM, completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Whose machine it is.
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
    /// CPU model; [`CpuModel::default_for`] the accelerator unless there is a reason.
    pub cpu_model: CpuModel,
    /// How devices are attached.
    pub bus: DeviceBus,
    /// Interrupt controller.
    pub gic: GicVersion,
    /// Raw disk image, the guest's `/dev/vda`. Its cache mode is `unsafe`: nodes are throw-away.
    pub disk: PathBuf,
    /// A read-only disk with container images, the guest's `/dev/vdb`; VMs may share the file.
    pub image_disk: Option<PathBuf>,
    /// Address of the one network card.
    pub mac: MacAddr,
    /// The switch's socket for this node.
    pub lan_socket: PathBuf,
    /// MTU that the network card offers to the guest, bytes.
    pub mtu: u16,
    /// Start with the CPUs stopped; [`super::Machine::resume`] lets them run.
    pub paused: bool,
    /// Start without memory of its own, for [`super::Machine::load`]; the CPUs stay stopped.
    pub incoming: bool,
    /// Directory of the machine's own files: `console.log`, `stderr.log`, `command.sh`.
    pub directory: PathBuf,
}

impl MachineSpec {
    /// The serial console, raw, as the guest wrote it.
    pub fn console_log(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// What QEMU itself had to say.
    pub fn stderr_log(&self) -> PathBuf {
        self.directory.join("stderr.log")
    }

    /// A script that starts the same VM by hand, with its console on the terminal.
    pub fn command_file(&self) -> PathBuf {
        self.directory.join("command.sh")
    }
}
