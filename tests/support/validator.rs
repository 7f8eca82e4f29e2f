//! Talos' own library as the lab asks it.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use lab_validator::Validator;

/// The directory of the project.
pub fn project() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().find(|path| path.join("Cargo.lock").is_file()).unwrap_or(manifest).to_owned()
}

/// The programs that `make images` builds. A missing one is built now.
pub fn validator() -> &'static Validator {
    static VALIDATOR: LazyLock<Validator> =
        LazyLock::new(|| Validator::new(&project().join("target/images"), |line| eprintln!("{line}")));
    &VALIDATOR
}
