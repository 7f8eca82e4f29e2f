//! The argument vector of a VM. A pure function, so tests can snapshot the vector of every host.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use lab_model::{accelerator::Accelerator, words::shell_quoted};

use super::{DeviceBus, GicVersion, MachineSpec};

/// The endpoints of the VM's console, monitor and network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The lab. QEMU connects to sockets on which the lab listens, so the lab never waits for a
    /// socket to appear.
    Lab {
        /// The lab's socket for the serial console.
        console: PathBuf,
        /// The lab's socket for the monitor.
        qmp: PathBuf,
    },
    /// The terminal of a user who pastes the command. Console and monitor use the standard streams.
    /// The network card uses QEMU's own NAT instead of the lab's switch.
    Terminal,
}

/// Size of QEMU's translation cache under TCG, in MiB. Only the used part becomes resident. QEMU
/// flushes a full cache completely and translates the code again. A control plane of the reference
/// node fills 670 MiB by the time its first pods run, a worker 400. QEMU's own limit is 1 GiB, too
/// much for several VMs on a laptop. The monitor command `info jit` shows the usage and the number of
/// flushes.
const TRANSLATION_CACHE_MIB: u32 = 768;

/// The arguments, without the program name. This function has no side effects.
pub fn arguments(accelerator: Accelerator, spec: &MachineSpec, wiring: &Wiring) -> Vec<OsString> {
    let mut a = Vector::default();
    a.option("-name", format!("{},debug-threads=on", spec.name));
    a.option("-M", machine(accelerator, spec));
    a.option("-accel", acceleration(accelerator));
    a.option("-cpu", spec.cpu_model.as_str());
    a.option("-smp", spec.vcpus.to_string());
    a.option("-m", format!("{}M", spec.memory_mib));
    for bare in ["-nodefaults", "-no-user-config"] {
        a.flag(bare);
    }
    a.option("-display", "none");
    a.option("-rtc", "base=utc");
    a.option_path("-kernel", &spec.kernel);
    a.option_path("-initrd", &spec.initramfs);
    a.option("-append", &spec.cmdline);

    // A disposable disk: no flushes, and holes for the blocks that the guest discards.
    a.option(
        "-blockdev",
        format!(
            "driver=file,node-name=disk-file,filename={},aio=threads,discard=unmap,cache.direct=off,cache.no-flush=on",
            escaped(&spec.disk)
        ),
    );
    a.option("-blockdev", "driver=raw,node-name=disk,file=disk-file,discard=unmap,cache.no-flush=on");
    a.option("-device", format!("{},drive=disk", device("virtio-blk", spec.bus)));
    if let Some(images) = &spec.image_disk {
        let images = escaped(images);
        let backend = format!("driver=file,node-name=images,filename={images},aio=threads,read-only=on");
        a.option("-blockdev", backend);
        a.option("-device", format!("{},drive=images", device("virtio-blk", spec.bus)));
    }

    let lan = match wiring {
        Wiring::Lab { .. } => {
            format!("stream,id=lan,server=off,addr.type=unix,addr.path={}", escaped(&spec.lan_socket))
        }
        Wiring::Terminal => "user,id=lan".to_owned(),
    };
    a.option("-netdev", lan);
    a.option(
        "-device",
        format!(
            "{},netdev=lan,mac={},host_mtu={}{}",
            device("virtio-net", spec.bus),
            spec.mac,
            spec.mtu,
            no_rom(spec.bus)
        ),
    );

    // Without an entropy source, the guest's first TLS key waits until interrupts provide enough
    // entropy.
    a.option("-object", "rng-builtin,id=entropy");
    a.option("-device", format!("{},rng=entropy", device("virtio-rng", spec.bus)));

    match wiring {
        Wiring::Lab { console, qmp } => {
            a.option("-chardev", format!("socket,id=console,server=off,path={}", escaped(console)));
            a.option("-serial", "chardev:console");
            a.option("-chardev", format!("socket,id=qmp,server=off,path={}", escaped(qmp)));
            a.option("-mon", "chardev=qmp,mode=control");
            if spec.paused || spec.incoming {
                a.flag("-S");
            }
            if spec.incoming {
                a.option("-incoming", "defer");
            }
        }
        Wiring::Terminal => a.option("-serial", "mon:stdio"),
    }
    a.0
}

/// The complete command as one line for a POSIX shell.
pub fn shell_line(program: &Path, arguments: &[OsString]) -> String {
    std::iter::once(shell_quoted(&program.to_string_lossy()))
        .chain(arguments.iter().map(|argument| shell_quoted(&argument.to_string_lossy())))
        .collect::<Vec<_>>()
        .join(" ")
}

fn machine(accelerator: Accelerator, spec: &MachineSpec) -> String {
    let gic = match (spec.gic, accelerator) {
        (GicVersion::V2, _) => "2",
        (GicVersion::V3, _) => "3",
        // KVM supports only the version of the host's controller.
        (GicVersion::Default, Accelerator::Kvm) => "host",
        (GicVersion::Default, _) if spec.vcpus > 8 => "3",
        (GicVersion::Default, _) => "2",
    };
    format!("virt,gic-version={gic}")
}

fn acceleration(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Tcg => format!("tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}"),
        native => native.name().to_owned(),
    }
}

fn device(kind: &str, bus: DeviceBus) -> String {
    match bus {
        DeviceBus::Pci => format!("{kind}-pci"),
        DeviceBus::Mmio => format!("{kind}-device"),
    }
}

/// Without firmware, no network boot ROM can run, so QEMU loads none.
fn no_rom(bus: DeviceBus) -> &'static str {
    match bus {
        DeviceBus::Pci => ",romfile=",
        DeviceBus::Mmio => "",
    }
}

/// QEMU's option syntax doubles a comma inside a value.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[derive(Default)]
struct Vector(Vec<OsString>);

impl Vector {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.extend([name.into(), value.as_ref().into()]);
    }

    fn option_path(&mut self, name: &str, value: &Path) {
        self.0.extend([name.into(), value.into()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::QemuBinary, process::CpuShare};
    use lab_model::accelerator::CpuModel;

    fn spec(accelerator: Accelerator) -> MachineSpec {
        MachineSpec {
            name: "control-plane-1".parse().unwrap(),
            kernel: "/images/compute/vmlinuz".into(),
            initramfs: "/images/compute/initramfs".into(),
            cmdline: "talos.platform=metal console=ttyAMA0 slab_nomerge pti=on".into(),
            memory_mib: 2048,
            vcpus: 2,
            cpu_model: CpuModel::default_for(accelerator),
            bus: DeviceBus::Pci,
            gic: GicVersion::Default,
            disk: "/run/control-plane-1/disk.raw".into(),
            image_disk: None,
            mac: "52:54:00:00:00:02".parse().unwrap(),
            lan_socket: "/tmp/lab-1/control-plane-1".into(),
            mtu: 1500,
            cpu_share: CpuShare::WHOLE,
            niceness: 0,
            paused: false,
            incoming: false,
            directory: "/run/control-plane-1".into(),
        }
    }

    fn lab() -> Wiring {
        Wiring::Lab { console: "/tmp/lab-2/console".into(), qmp: "/tmp/lab-2/qmp".into() }
    }

    /// Formats one option with its values per line, for readable snapshots.
    fn lines(arguments: &[OsString]) -> String {
        let mut text = String::new();
        for argument in arguments {
            let argument = argument.to_string_lossy();
            text.push_str(if argument.starts_with('-') { "\n" } else { " " });
            text.push_str(&argument);
        }
        text.trim_start().to_owned()
    }

    #[test]
    fn linux_kvm_arm64() {
        insta::assert_snapshot!(lines(&arguments(Accelerator::Kvm, &spec(Accelerator::Kvm), &lab())));
    }

    #[test]
    fn macos_hvf_arm64() {
        insta::assert_snapshot!(lines(&arguments(Accelerator::Hvf, &spec(Accelerator::Hvf), &lab())));
    }

    #[test]
    fn linux_tcg_x86_64() {
        insta::assert_snapshot!(lines(&arguments(Accelerator::Tcg, &spec(Accelerator::Tcg), &lab())));
    }

    #[test]
    fn mmio_devices_paused() {
        let spec = MachineSpec { bus: DeviceBus::Mmio, paused: true, ..spec(Accelerator::Tcg) };
        insta::assert_snapshot!(lines(&arguments(Accelerator::Tcg, &spec, &lab())));
    }

    #[test]
    fn the_line_to_paste_needs_nothing_of_the_lab() {
        let qemu = QemuBinary::for_tests();
        let arguments = arguments(Accelerator::Tcg, &spec(Accelerator::Tcg), &Wiring::Terminal);
        insta::assert_snapshot!(shell_line(&qemu.path, &arguments));
    }

    #[test]
    fn a_disk_of_images_comes_after_the_system_disk_and_is_read_only() {
        let spec = MachineSpec { image_disk: Some("/cache/a,b.img".into()), ..spec(Accelerator::Tcg) };
        let lines = lines(&arguments(Accelerator::Tcg, &spec, &lab()));
        let at = |text: &str| lines.find(text).unwrap_or_else(|| panic!("no {text} in {lines}"));
        assert!(at("virtio-blk-pci,drive=disk") < at("virtio-blk-pci,drive=images"));
        assert!(at("filename=/cache/a,,b.img,aio=threads,read-only=on") > 0);
    }

    #[test]
    fn commas_in_paths_do_not_end_an_option() {
        let spec = MachineSpec { disk: "/a,b/disk".into(), ..spec(Accelerator::Tcg) };
        let arguments = arguments(Accelerator::Tcg, &spec, &lab());
        assert!(arguments.iter().any(|a| a.to_string_lossy().contains("filename=/a,,b/disk,")));
    }
}
