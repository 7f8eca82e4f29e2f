//! A guest of a few instructions: it writes a text to the serial port and then waits or powers
//! off. It boots in milliseconds, so tests of the machine need no kernel and no image.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lab_model::accelerator::{Accelerator, CpuModel};
use lab_vm::{
    machine::{DeviceBus, GicVersion, MachineSpec, make_disk},
    process::CpuShare,
};

/// What the guest does after its text.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "not every test that has such a guest wants both")]
pub enum Then {
    /// Sleeps until the machine is ended.
    Wait,
    /// Writes back what comes in at the serial port.
    Echo,
    /// Powers the machine off, as `poweroff` does (PSCI `SYSTEM_OFF`).
    PowerOff,
}

/// A machine called `node-1` with this guest. Its files are in `directory`; the LAN socket there,
/// `lan`, must be listened to by the caller.
pub fn spec(directory: &Path, accelerator: Accelerator, text: &str, then: Then) -> Result<MachineSpec> {
    let disk = directory.join("disk.raw");
    make_disk(&disk, 64 << 20)?;
    std::fs::write(directory.join("initramfs"), b"not read by this guest")?;
    Ok(MachineSpec {
        name: "node-1".parse()?,
        kernel: write(directory, text, then)?,
        initramfs: directory.join("initramfs"),
        cmdline: "console=ttyAMA0".into(),
        memory_mib: 64,
        vcpus: 1,
        cpu_model: CpuModel::default_for(accelerator),
        bus: DeviceBus::Pci,
        gic: GicVersion::Default,
        disk,
        image_disk: None,
        mac: "52:54:00:00:00:02".parse()?,
        lan_socket: directory.join("lan"),
        mtu: 1500,
        cpu_share: CpuShare::WHOLE,
        niceness: 0,
        paused: false,
        incoming: false,
        directory: directory.join("node-1"),
    })
}

/// Writes the guest as an arm64 kernel image (Linux `Documentation/arch/arm64/booting.rst`) to
/// `directory` and returns its path.
fn write(directory: &Path, text: &str, then: Then) -> std::io::Result<PathBuf> {
    /// Where the text lies in the image.
    const TEXT: usize = 0x100;
    let mut code: Vec<u32> = vec![
        0x1000_0601, //       adr  x1, text
        0xd2a1_2002, //       movz x2, #0x900, lsl #16    the PL011 of QEMU's virt machine
        0x3840_1423, // next: ldrb w3, [x1], #1
        0x3400_0063, //       cbz  w3, done
        0x3900_0043, //       strb w3, [x2]
        0x17ff_fffd, //       b    next
    ];
    if let Then::PowerOff = then {
        code.extend([
            0x52b0_8000, // done: movz w0, #0x8400, lsl #16
            0x7280_0100, //       movk w0, #8                 SYSTEM_OFF
            0xd400_0002, //       hvc  #0
        ]);
    }
    if let Then::Echo = then {
        code.extend([
            0xb940_1843, // done: ldr  w3, [x2, #0x18]        the flags of the PL011
            0x3727_ffe3, //       tbnz w3, #4, done           nothing came in
            0xb940_0043, //       ldr  w3, [x2]
            0x3900_0043, //       strb w3, [x2]
            0x17ff_fffc, //       b    done
        ]);
    }
    code.extend([
        0xd503_207f, // done: wfi
        0x17ff_ffff, //       b    done
    ]);

    let mut image = vec![0_u8; 0x40];
    image[0..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes()); // b 0x40
    image[16..24].copy_from_slice(&0x1000_u64.to_le_bytes()); // size in memory
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend(code.iter().flat_map(|instruction| instruction.to_le_bytes()));
    image.resize(TEXT, 0);
    image.extend_from_slice(text.as_bytes());
    image.resize(0x1000, 0);
    let path = directory.join("guest.img");
    std::fs::write(&path, image)?;
    Ok(path)
}
