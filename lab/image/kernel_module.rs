//! A kernel module: what it says about itself in its section `.modinfo` (Linux scripts/mod/modpost.c, `modinfo(8)`), and
//! its signature.

use object::{
    Endianness,
    elf::{EM_AARCH64, FileHeader64},
    read::elf::{FileHeader, SectionHeader},
};

use super::{
    compression::{Compression, decompress},
    kernel_facts::TrustedKey,
    module_signature::{Trust, split_signature},
};

/// A limit in bytes, above the unpacked size of any module.
pub const MODULE_LIMIT: u64 = 128 << 20;
/// The largest section `.modinfo`, in bytes.
const INFO_LIMIT: usize = 1 << 20;
/// The endings of the names of modules.
const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// What a module says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelModule {
    /// The name, with underscores, as `lsmod` shows it.
    pub name: String,
    /// The kernel that it was built for; empty if the module does not say it.
    pub vermagic: String,
    /// The modules that it needs.
    pub depends: Vec<String>,
    /// The devices that it drives, as patterns.
    pub aliases: Vec<String>,
    /// Whether a kernel with the given keys accepts it.
    pub trust: Trust,
}

/// Returns the name of the module in a file, with underscores, or `None` if the file is not named like a module.
pub fn module_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
    Some(module_name(stem))
}

/// Writes a name of a module as the kernel does: `drbd_transport_tcp` for `drbd-transport-tcp`.
pub fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

impl KernelModule {
    /// Reads the file of a module, compressed or not, and judges its signature as a kernel with `keys` does.
    ///
    /// # Errors
    /// Returns a description of the problem: the file does not unpack, or it is not a module for arm64.
    pub fn read(path: &str, file: &[u8], keys: &[TrustedKey]) -> Result<Self, String> {
        let compression = Compression::detect(file);
        let mut unpacked = Vec::new();
        let module = if compression == Compression::Uncompressed {
            file
        } else {
            decompress(compression, file, &mut unpacked, MODULE_LIMIT)
                .map_err(|error| format!("it does not unpack: {error}"))?;
            &unpacked
        };
        let (content, trust) = match split_signature(module) {
            Ok((content, None)) => (content, Trust::Unsigned),
            Ok((content, Some(signature))) => (content, signature.judge(content, keys)),
            Err(why) => (module, Trust::Invalid { why }),
        };
        let mut found = Self {
            name: module_of(path).unwrap_or_default(),
            vermagic: String::new(),
            depends: Vec::new(),
            aliases: Vec::new(),
            trust,
        };
        found.take(module_info(content)?);
        Ok(found)
    }

    fn take(&mut self, info: &[u8]) {
        for field in info.split(|byte| *byte == 0) {
            let field = String::from_utf8_lossy(field);
            match field.split_once('=') {
                Some(("name", name)) => self.name = module_name(name),
                Some(("vermagic", magic)) => self.vermagic = magic.trim_end().to_owned(),
                Some(("depends", names)) => {
                    let names = names.split(',').filter(|name| !name.is_empty());
                    self.depends.extend(names.map(module_name));
                }
                Some(("alias", alias)) => self.aliases.push(alias.to_owned()),
                _ => {}
            }
        }
    }
}

/// Returns the section `.modinfo` of an ELF file for arm64.
fn module_info(file: &[u8]) -> Result<&[u8], String> {
    let wrong = |error: object::Error| format!("it is not a module: {error}");
    let header = FileHeader64::<Endianness>::parse(file).map_err(wrong)?;
    let order = header.endian().map_err(wrong)?;
    let machine = header.e_machine(order);
    if machine != EM_AARCH64 {
        return Err(format!("it is a module for {}", super::machine::name_of(machine)));
    }
    let sections = header.sections(order, file).map_err(wrong)?;
    let (_, section) = sections
        .section_by_name(order, b".modinfo")
        .ok_or("it is not a module: it has no section .modinfo")?;
    let info = section.data(order, file).map_err(wrong)?;
    if info.len() > INFO_LIMIT {
        return Err(format!("its section .modinfo has {} bytes", info.len()));
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{elf, gzip, module, xz};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_module_tells_its_kernel_needs_and_devices_in_every_compression() {
        let plain = module("drbd-transport", "6.12 SMP aarch64 ", &["drbd", "lru-cache"], &["of:N*T*Cx,y"]);
        let zstd = zstd::encode_all(&plain[..], 1).expect("zstd");
        for (path, file) in [
            ("a/drbd-transport.ko", plain.clone()),
            ("drbd-transport.ko.gz", gzip(&plain)),
            ("drbd-transport.ko.xz", xz(&plain)),
            ("drbd-transport.ko.zst", zstd),
        ] {
            let read = KernelModule::read(path, &file, &[]).expect("read");
            let expected = KernelModule {
                name: "drbd_transport".into(),
                vermagic: "6.12 SMP aarch64".into(),
                depends: vec!["drbd".into(), "lru_cache".into()],
                aliases: vec!["of:N*T*Cx,y".into()],
                trust: Trust::Unsigned,
            };
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_is_not_a_module_for_arm64_is_told() {
        let error = |file: &[u8]| KernelModule::read("a.ko", file, &[]).expect_err("refused");
        assert!(error(b"text").starts_with("it is not a module: "), "{}", error(b"text"));
        assert_eq!(error(&elf(62)), "it is a module for amd64");
        assert_eq!(error(&elf(183)), "it is not a module: it has no section .modinfo");
        assert!(error(&gzip(b"x")[..12]).starts_with("it does not unpack"));
    }

    #[test]
    fn names_of_files_become_names_of_modules() {
        assert_eq!(module_of("lib/modules/6/extra/nf-nat.ko.zst").as_deref(), Some("nf_nat"));
        assert_eq!(module_of("lib/modules/6/modules.dep"), None);
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at: prop::sample::Index, byte: u8, keep: prop::sample::Index) {
            let mut file = module("a", "6.12 SMP aarch64", &["b"], &[]);
            let length = file.len();
            file[at.index(length)] = byte;
            let _ = KernelModule::read("a.ko", &file[..keep.index(length)], &[]);
        }
    }
}
