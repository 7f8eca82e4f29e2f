//! The kernel modules that extension services wait for.
//!
//! A service of an extension can wait for a device file, and the file exists once a module of the same extension is
//! loaded: `zfs-service` waits for `/dev/zfs` (siderolabs/extensions, `storage/zfs/zfs-service.yaml`). Talos loads only
//! the modules that the machine config names, and its boot sequence waits for all services (`StartAllServices` in
//! `v1alpha1_sequencer_tasks.go` of v1.13.9). Without the module in the config, the boot of the node never ends.

use lab_image::Contents;

/// Returns the modules of the image whose device file an extension service waits for.
pub(super) fn modules_waited_for(contents: &Contents) -> Vec<String> {
    let depends = contents.services.iter().flat_map(|service| &service.depends);
    let devices = depends.filter_map(|word| word.strip_prefix("path /dev/"));
    let mut modules: Vec<_> = devices.filter_map(|device| module_of(device, contents)).collect();
    modules.sort();
    modules.dedup();
    modules
}

/// The module with the name of a device. The kernel treats `-` and `_` in names of modules as equal.
fn module_of(device: &str, contents: &Contents) -> Option<String> {
    let plain = |name: &str| name.replace('-', "_");
    let mut modules = contents.kernel_modules.iter();
    modules.find(|module| plain(module) == plain(device)).cloned()
}

#[cfg(test)]
mod tests {
    use lab_image::ExtensionService;

    use super::*;

    fn contents(depends: &[&str], modules: &[&str]) -> Contents {
        let service = ExtensionService {
            id: "ext-zfs-service".into(),
            extension: "zfs".into(),
            depends: depends.iter().map(|&word| word.to_owned()).collect(),
            needs_configuration: false,
            impossible_mounts: Vec::new(),
        };
        let kernel_modules = modules.iter().map(|&name| name.to_owned()).collect();
        Contents { services: vec![service], kernel_modules, ..Contents::default() }
    }

    #[test]
    fn the_module_of_a_device_that_a_service_waits_for_is_found() {
        let zfs = contents(&["service udevd", "service cri", "path /dev/zfs"], &["drbd", "spl", "zfs"]);
        assert_eq!(modules_waited_for(&zfs), ["zfs"]);
        assert_eq!(modules_waited_for(&contents(&["path /dev/a_b"], &["a-b"])), ["a-b"]);
    }

    #[test]
    fn other_waits_need_no_module() {
        let none = [""; 0];
        assert_eq!(modules_waited_for(&contents(&["path /dev/net/tun"], &["zfs", "tun"])), none);
        assert_eq!(modules_waited_for(&contents(&["path /var/zfs"], &["zfs"])), none);
        assert_eq!(modules_waited_for(&contents(&["service zfs"], &["zfs"])), none);
        assert_eq!(modules_waited_for(&contents(&["path /dev/zfs"], &["drbd"])), none);
    }
}
