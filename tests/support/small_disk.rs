//! A file system that is soon full, and that no other process sees.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};

/// Runs a shell script with a new file system of `mib` MiB in memory at `$PLACE`. Returns `None`, and says so, where this
/// user may not mount one; that is a failure in continuous integration.
pub fn on_small_disk(mib: u32, script: &str, variables: &[(&str, &Path)]) -> Result<Option<Output>> {
    let place = tempfile::tempdir()?;
    let script = format!("mount -t tmpfs -o size={mib}m,mode=0700 small \"$PLACE\" || exit 77\n{script}");
    // As root, as root of a user namespace, or with sudo.
    let ways: [&[&str]; 3] =
        [&["unshare", "-m"], &["unshare", "-rm"], &["sudo", "-n", "--preserve-env", "unshare", "-m"]];
    for way in ways {
        let may = Command::new(way[0])
            .args(&way[1..])
            .args(["sh", "-c", "mount -t tmpfs none \"$PLACE\""])
            .env("PLACE", place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if may.is_ok_and(|status| status.success()) {
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).args(["sh", "-c", &script]).env("PLACE", place.path());
            command.envs(variables.iter().copied());
            return Ok(Some(command.output()?));
        }
    }
    let why = "NOT LOOKED AT: this user may mount no file system; run the test as root";
    ensure!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("{why}");
    Ok(None)
}
