//! What tests of the command line have in common.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Result, ensure};

/// The directory of a built image.
pub fn built(name: &str) -> Result<PathBuf> {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images").join(name);
    ensure!(
        image.join("boot/initramfs.xz").is_file(),
        "no image in {}: build the images first (make images)",
        image.display()
    );
    Ok(image)
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
