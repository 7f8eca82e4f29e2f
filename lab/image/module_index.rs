//! The lists of modules that `depmod` writes (depmod(8), modules.dep(5)) and that the kernel's build writes for what it
//! has built in (`modules.builtin`, `modules.builtin.modinfo`: Linux Documentation/kbuild/kbuild.rst).

use std::collections::{BTreeMap, BTreeSet};

use super::kernel_module::module_of;

/// The modules in `modules.dep`, by the paths in it: each can be found by name.
pub fn listed_modules(modules_dep: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(modules_dep);
    text.lines().filter_map(|line| module_of(line.split_once(':')?.0)).collect()
}

/// The modules in `modules.builtin`.
pub fn built_in_modules(modules_builtin: &[u8]) -> BTreeSet<String> {
    String::from_utf8_lossy(modules_builtin).lines().filter_map(|line| module_of(line.trim())).collect()
}

/// The patterns of devices that built-in modules drive, with the modules: the fields `alias` in
/// `modules.builtin.modinfo`.
pub fn built_in_aliases(modinfo: &[u8]) -> BTreeMap<String, String> {
    let fields = modinfo.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let alias = |field: std::borrow::Cow<'_, str>| {
        let (module, alias) = field.split_once(".alias=")?;
        Some((alias.to_owned(), module.to_owned()))
    };
    fields.filter_map(alias).collect()
}

/// Returns the value of `compatible` in a pattern of device tree devices (`of:N*T*Cbrcm,bcm2835-sdhci`), or `None` for
/// patterns of other buses.
pub fn compatible_of(alias: &str) -> Option<&str> {
    let (_, compatible) = alias.strip_prefix("of:N")?.split_once('C')?;
    Some(compatible.strip_suffix("C*").or_else(|| compatible.strip_suffix('*')).unwrap_or(compatible))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_modules_with_underscores() {
        let dep = b"kernel/net/nf-nat.ko.xz: kernel/net/nf_conntrack.ko.xz\nextra/drbd.ko:\nno colon\n";
        assert_eq!(listed_modules(dep), ["drbd", "nf_nat"].map(str::to_owned).into());
        assert_eq!(built_in_modules(b"kernel/fs/ext4/ext4.ko\n\n"), ["ext4".to_owned()].into());
    }

    #[test]
    fn devices_of_built_in_modules_are_known_by_their_compatible_value() {
        let modinfo =
            b"sdhci_iproc.license=GPL\0sdhci_iproc.alias=of:N*T*Cbrcm,bcm2835-sdhciC*\0xhci.alias=pci:v*\0";
        let aliases = built_in_aliases(modinfo);
        let found: Vec<_> = aliases
            .iter()
            .filter_map(|(alias, module)| Some((compatible_of(alias)?, module.as_str())))
            .collect();
        assert_eq!(found, [("brcm,bcm2835-sdhci", "sdhci_iproc")]);
        assert_eq!(compatible_of("of:N*T*Ca,b*"), Some("a,b"));
        assert_eq!(compatible_of("usb:v1"), None);
    }
}
