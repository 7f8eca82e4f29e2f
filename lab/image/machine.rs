//! The architecture of a program, from the first bytes of its file.

use object::{
    Endianness,
    elf::{
        EM_386, EM_AARCH64, EM_ARM, EM_BPF, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC, FileHeader32, FileHeader64,
    },
    read::elf::FileHeader,
};
use serde::{Deserialize, Serialize};

/// What the header of an ELF file says (System V ABI, "ELF Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfHead {
    /// The number of the architecture (`e_machine`).
    pub machine: u16,
    /// True if the kernel can start the file or load it as a library, and false for object files and core dumps.
    pub is_program: bool,
}

impl ElfHead {
    /// Reads the header of an ELF file. 64 bytes are sufficient. Returns `None` for files in other formats.
    pub fn parse(head: &[u8]) -> Option<Self> {
        of::<FileHeader64<Endianness>>(head).or_else(|| of::<FileHeader32<Endianness>>(head))
    }

    pub fn is_arm64(self) -> bool {
        self.machine == EM_AARCH64
    }

    /// Whether the code is for a machine of the kernel's own (eBPF) and not for a processor.
    pub fn is_bytecode(self) -> bool {
        self.machine == EM_BPF
    }

    /// The architecture, as container images name it.
    pub fn machine_name(self) -> String {
        name_of(self.machine)
    }
}

fn of<Header: FileHeader>(head: &[u8]) -> Option<ElfHead> {
    let header = Header::parse(head).ok()?;
    let order = header.endian().ok()?;
    let is_program = [ET_EXEC, ET_DYN].contains(&header.e_type(order));
    Some(ElfHead { machine: header.e_machine(order), is_program })
}

/// The name of an architecture.
pub(super) fn name_of(machine: u16) -> String {
    match machine {
        EM_AARCH64 => "arm64".to_owned(),
        EM_X86_64 => "amd64".to_owned(),
        EM_386 => "386".to_owned(),
        EM_ARM => "arm (32 bits)".to_owned(),
        EM_RISCV => "riscv".to_owned(),
        other => format!("machine type {other}"),
    }
}
