//! Boot files in each layout that images were ever published in, for tests of readers and of whole rehearsals.

use sha2::{Digest as _, Sha256};

use super::fixture::{disk, gzip, pe, xz};

/// Paths within an image, and contents.
pub(crate) type OwnedFiles = Vec<(String, Vec<u8>)>;

/// What an image boots from.
pub(crate) struct BootFiles {
    pub(crate) kernel: Vec<u8>,
    pub(crate) initramfs: Vec<u8>,
}

impl BootFiles {
    fn pair(&self, kernel: &str, initramfs: &str) -> OwnedFiles {
        vec![(kernel.to_owned(), self.kernel.clone()), (initramfs.to_owned(), self.initramfs.clone())]
    }

    fn unified(&self) -> Vec<u8> {
        /// ARM64 in the header of a PE file.
        const MACHINE: u16 = 0xaa64;
        let sections: [(&str, &[u8]); 3] =
            [(".linux", &self.kernel), (".initrd", &self.initramfs), (".cmdline", b"talos.platform=metal")];
        pe(MACHINE, &sections)
    }

    /// What Talos writes: systemd-boot beside its unified kernel image, and further partitions.
    fn raw_disk(&self) -> Vec<u8> {
        let unified = self.unified();
        let system: [(&str, &[u8]); 2] =
            [("EFI/boot/BOOTAA64.efi", b"systemd-boot"), ("EFI/Linux/Talos-v1.12.7.efi", &unified)];
        disk(&system, &[("META", &[0; 1 << 20])])
    }
}

/// A layout's name, as `lab image inspect` tells it, and an image in it.
pub(crate) type Layout = (&'static str, fn(&BootFiles) -> OwnedFiles);

const DISK: &str = "disk image: UKI Talos-v1.12.7.efi in the EFI system partition";

/// Every layout; a disk image packed in every way.
pub(crate) const LAYOUTS: [Layout; 11] = [
    ("asset directory", |boot| {
        let mut files = boot.pair("assets/talos/arm64/vmlinuz", "assets/talos/arm64/initramfs.xz");
        for number in 0..2 {
            let path = files[number].0.clone();
            let name = path.rsplit('/').next().unwrap_or_default();
            files.push((format!("{path}.sha256"), sums(&[(name, &files[number].1)])));
        }
        files
    }),
    ("asset directory with boot/", |boot| {
        let mut files = boot.pair("assets/talos/arm64/boot/vmlinuz", "assets/talos/arm64/boot/initramfs.xz");
        let sums = sums(&[("./boot/vmlinuz", &boot.kernel), ("./boot/initramfs.xz", &boot.initramfs)]);
        files.push(("assets/talos/arm64/checksums.sha256".to_owned(), sums));
        files
    }),
    ("matchbox image", |boot| {
        boot.pair("var/lib/matchbox/assets/vmlinuz", "var/lib/matchbox/assets/initramfs.xz")
    }),
    ("installer image with a unified kernel image", |boot| {
        vec![("usr/install/arm64/vmlinuz.efi".to_owned(), boot.unified())]
    }),
    ("installer image", |boot| boot.pair("usr/install/arm64/vmlinuz", "usr/install/arm64/initramfs.xz")),
    ("build output", |boot| boot.pair("_out/assets/kernel-arm64", "_out/assets/initramfs-metal-arm64.xz")),
    ("release files", |boot| {
        let kernel = "talos-kernel-arm64-spin-talos-v1.12.7-cozy-v1";
        let initramfs = "talos-initramfs-arm64-spin-talos-v1.12.7-cozy-v1.xz";
        let mut files = boot.pair(kernel, initramfs);
        let sums = sums(&[(kernel, &boot.kernel), (initramfs, &boot.initramfs), ("x", b"")]);
        files.push(("SHA256SUMS".to_owned(), sums));
        files
    }),
    (DISK, |boot| vec![("_out/assets/metal-arm64.raw.xz".to_owned(), xz(&boot.raw_disk()))]),
    (DISK, |boot| vec![("_out/assets/metal-arm64.raw".to_owned(), boot.raw_disk())]),
    (DISK, |boot| {
        let name = "talos-metal-arm64-spin-talos-v1.12.7-cozy-v1.raw.zst";
        let packed = zstd::encode_all(&boot.raw_disk()[..], 1).expect("encode");
        let sums = sums(&[(name, &packed), ("x", b"")]);
        vec![(name.to_owned(), packed), ("SHA256SUMS".to_owned(), sums)]
    }),
    (DISK, |boot| vec![("metal-arm64.raw.gz".to_owned(), gzip(&boot.raw_disk()))]),
];

/// A checksum file as `sha256sum` writes it.
fn sums(files: &[(&str, &[u8])]) -> Vec<u8> {
    let line =
        |(name, content): &(&str, &[u8])| format!("{}  {name}\n", hex::encode(Sha256::digest(content)));
    files.iter().map(line).collect::<String>().into_bytes()
}
