//! Saves a guest's memory and devices to a file and loads them. Uses QEMU's migration, with a file
//! instead of another host.
//!
//! QEMU 9.0 opens the file itself. Older versions have no such transport, and their usual way is a program such as
//! `cat`, which a confined QEMU must not start: the lab opens the file and passes its descriptor.

use std::{fs::File, io, path::PathBuf};

use lab_model::files::create_private;
use qapi::{Any, qmp::QmpCommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Machine, MachineError, MigrationState, QemuBinary};

/// QEMU's write limit in bytes per second. No disk reaches this value, because a limit would only
/// lengthen the pause (QEMU's own default is 128 MiB/s).
const BANDWIDTH: u64 = 100 << 30;

/// Threads that write or read a mapped file, in addition to QEMU's own.
const CHANNELS: u32 = 2;

/// The layout of memory in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryFormat {
    /// QEMU's migration stream. Every QEMU version that the lab supports can write it.
    Stream,
    /// Each page has a fixed place in a sparse file (`mapped-ram`, QEMU 9.0), so several threads can
    /// write and read the file.
    Mapped,
}

impl MemoryFormat {
    /// The fastest format that this QEMU supports.
    pub fn best(qemu: &QemuBinary) -> Self {
        if qemu.has_mapped_ram() { Self::Mapped } else { Self::Stream }
    }

    fn capabilities(self) -> SetCapabilities {
        let capability = |name: &str, state: bool| json!({ "capability": name, "state": state });
        let mut capabilities = vec![capability("events", true)];
        if self == Self::Mapped {
            capabilities.extend([capability("mapped-ram", true), capability("multifd", true)]);
        }
        SetCapabilities { capabilities }
    }

    fn parameters(self) -> SetParameters {
        let multifd_channels = (self == Self::Mapped).then_some(CHANNELS);
        SetParameters { max_bandwidth: BANDWIDTH, multifd_channels }
    }
}

/// The source of a guest's memory, instead of a cold start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMemory {
    pub file: PathBuf,
    /// The layout of memory in the file.
    pub format: MemoryFormat,
}

/// The name of a passed file in QEMU's monitor.
const PASSED_FILE: &str = "memory";

impl SavedMemory {
    /// The name of the file for QEMU.
    fn uri(&self) -> String {
        match self.format {
            MemoryFormat::Stream => format!("fd:{PASSED_FILE}"),
            MemoryFormat::Mapped => format!("file:{}", self.file.display()),
        }
    }
}

impl Machine {
    /// Writes memory and devices to a file. The CPUs must be stopped, and [`Machine::resume`] starts
    /// them again afterwards. Until then the disk file does not change.
    ///
    /// # Errors
    /// Fails if QEMU cannot write the file, or ends.
    pub async fn save(&self, to: &SavedMemory) -> Result<(), MachineError> {
        const ACTION: &str = "save its memory";
        self.prepare_migration(to.format, ACTION).await?;
        self.pass(to, create_private, ACTION).await?;
        self.command(
            qapi::qmp::migrate { channels: None, detach: None, resume: None, uri: Some(to.uri()) },
            ACTION,
        )
        .await?;
        self.wait_for_migration(ACTION).await
    }

    /// Reads memory and devices from a file into a machine that was started with
    /// [`super::MachineSpec::incoming`]. The CPUs stay stopped.
    ///
    /// # Errors
    /// Fails if this machine did not save the file, or if QEMU ends.
    pub async fn load(&self, from: &SavedMemory) -> Result<(), MachineError> {
        const ACTION: &str = "load its memory";
        self.prepare_migration(from.format, ACTION).await?;
        self.pass(from, |path| File::open(path), ACTION).await?;
        let uri = Some(from.uri());
        self.command(qapi::qmp::migrate_incoming { channels: None, exit_on_error: None, uri }, ACTION)
            .await?;
        self.wait_for_migration(ACTION).await
    }

    async fn prepare_migration(
        &self,
        format: MemoryFormat,
        action: &'static str,
    ) -> Result<(), MachineError> {
        self.forget_migration();
        self.command(format.capabilities(), action).await?;
        self.command(format.parameters(), action).await
    }

    /// Passes the opened file to a QEMU that does not open it itself.
    async fn pass(
        &self,
        memory: &SavedMemory,
        open: impl FnOnce(&std::path::Path) -> io::Result<File>,
        action: &'static str,
    ) -> Result<(), MachineError> {
        if memory.format == MemoryFormat::Mapped {
            return Ok(());
        }
        let node = || self.spec().name.clone();
        let file = open(&memory.file).map_err(|source| {
            let path = memory.file.clone();
            MachineError::File { node: node(), action: "open", path, source }
        })?;
        let passed = self.qmp().pass_file(PASSED_FILE, &file).await;
        passed.map_err(|source| MachineError::Monitor { node: node(), action, source })
    }

    /// Waits for the end of a migration, without a timeout: callers race it against a deadline.
    async fn wait_for_migration(&self, action: &'static str) -> Result<(), MachineError> {
        let state = tokio::select! {
            biased;
            state = self.migration_ended() => state,
            failure = self.failure() => return Err(failure.into()),
        };
        if state == MigrationState::Completed {
            return Ok(());
        }
        let reason = self.query(QueryMigration {}, action).await?;
        let reason = reason["error-desc"].as_str().unwrap_or("QEMU does not say why").to_owned();
        Err(MachineError::Memory { node: self.spec().name.clone(), action, reason })
    }
}

// The crate's types support the capabilities of only one QEMU version; these three types accept any
// capability.

#[derive(Debug, Clone, Serialize)]
struct SetCapabilities {
    capabilities: Vec<Any>,
}

impl QmpCommand for SetCapabilities {}
impl qapi::Command for SetCapabilities {
    const NAME: &'static str = "migrate-set-capabilities";
    const ALLOW_OOB: bool = false;
    type Ok = qapi::Empty;
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SetParameters {
    max_bandwidth: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    multifd_channels: Option<u32>,
}

impl QmpCommand for SetParameters {}
impl qapi::Command for SetParameters {
    const NAME: &'static str = "migrate-set-parameters";
    const ALLOW_OOB: bool = false;
    type Ok = qapi::Empty;
}

#[derive(Debug, Clone, Serialize)]
struct QueryMigration {}

impl QmpCommand for QueryMigration {}
impl qapi::Command for QueryMigration {
    const NAME: &'static str = "query-migrate";
    const ALLOW_OOB: bool = false;
    type Ok = Any;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_without_mapped_memory_gets_the_stream() {
        let old = QemuBinary::for_tests();
        assert_eq!(MemoryFormat::best(&old), MemoryFormat::Stream);
        let new = QemuBinary { migration_capabilities: vec!["mapped-ram".into()], ..old };
        assert_eq!(MemoryFormat::best(&new), MemoryFormat::Mapped);
    }
}
