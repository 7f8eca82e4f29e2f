//! Where a node image comes from and what is in it: kernel, initramfs, extensions, checksums.
