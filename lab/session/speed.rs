//! The current speed of this host, measured with the kernel of the image.
//!
//! A bare kernel boots until it starts its first process. The process is not executable, so the kernel
//! panics. With `panic=-1` and `-no-reboot`, QEMU then ends. This is the same work on every host, and takes a
//! second or two.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab_image::cpio_archive::{self, CpioEntry};
use lab_model::{
    accelerator::{Accelerator, CpuModel},
    events::EventKind,
};
use lab_plan::cluster::PreparedImage;
use lab_vm::{
    host::{HostLoad, SpeedCache, SpeedFactor, SpeedKey, SpeedMeasurement, host_key},
    machine::QemuBinary,
    process::ChildOptions,
};
use tempfile::NamedTempFile;

use super::open::{Session, SessionError, SessionOptions};

/// The time limit of a bare kernel boot. After it, the limit counts as the measurement.
const PATIENCE: Duration = Duration::from_secs(90);

impl Session {
    /// The speed factor for `image`, from the cache or measured now. It is at least 1: a faster host does not
    /// need shorter limits.
    pub(super) async fn speed_factor(&self, image: &PreparedImage) -> Result<SpeedFactor, SessionError> {
        let key = speed_key(&self.options, &self.qemu, self.accelerator, image);
        let now = tokio::task::spawn_blocking(HostLoad::now).await;
        let now = now.map_err(|error| failed(io::Error::other(error)))?;
        let factor = match kept_measurement(&self.options, &key) {
            Some(known) => known.factor.under(now, known.load),
            None => {
                let seen = self.time_bare_kernel(&image.boot.kernel, &self.cpu_model()).await?;
                let measured = SpeedMeasurement::new(seen, now);
                // Without the cache entry, the next run measures again.
                let _ = cache(&self.options).put(&key, measured);
                measured.factor
            }
        };
        self.recorder.record(EventKind::HostMeasured {
            accelerator: self.accelerator.to_string(),
            qemu: self.qemu.version.to_string(),
            speed_factor: factor.get(),
        });
        Ok(factor)
    }

    /// The CPU model of the guests in this run.
    pub(super) fn cpu_model(&self) -> CpuModel {
        cpu_model(&self.options, self.accelerator)
    }

    /// Time from the start of QEMU until the kernel has started its first process.
    pub(super) async fn time_bare_kernel(
        &self,
        kernel: &Path,
        cpu: &CpuModel,
    ) -> Result<Duration, SessionError> {
        let initramfs = least_initramfs().map_err(failed)?;
        let mut command = Command::new(&self.qemu.path);
        command
            .args(["-M", "virt", "-smp", "1", "-m", "512M", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "null", "-append", "console=ttyAMA0 panic=-1"])
            .args(["-cpu", cpu.as_str(), "-accel", self.accelerator.name()])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The factor then includes the share, and so do all time limits.
        let share = ChildOptions { share: self.options.cpu_share, ..ChildOptions::default() };
        let started = Instant::now();
        let process = self.processes.spawn_with("speed", command, share).await;
        let process = process.map_err(|error| failed(io::Error::other(error)))?;
        // After the limit, drop kills the process, and the limit is the measurement.
        let _ = tokio::time::timeout(PATIENCE, process.wait()).await;
        Ok(started.elapsed())
    }
}

/// The conditions under which a measurement with this image is valid.
pub(super) fn speed_key(
    options: &SessionOptions,
    qemu: &QemuBinary,
    accelerator: Accelerator,
    image: &PreparedImage,
) -> SpeedKey {
    SpeedKey {
        host: host_key(),
        qemu: qemu.version.to_string(),
        accelerator: format!(
            "{accelerator} {} {}",
            cpu_model(options, accelerator).as_str(),
            options.cpu_share
        ),
        image: image.digest.to_string(),
    }
}

/// The measurement of an earlier run if it is still valid.
pub(super) fn kept_measurement(options: &SessionOptions, key: &SpeedKey) -> Option<SpeedMeasurement> {
    cache(options).get(key)
}

fn cache(options: &SessionOptions) -> SpeedCache {
    SpeedCache::new(options.root.join("speed.json"))
}

fn cpu_model(options: &SessionOptions, accelerator: Accelerator) -> CpuModel {
    options.cpu_model.clone().unwrap_or_else(|| CpuModel::default_for(accelerator))
}

fn failed(source: io::Error) -> SessionError {
    SessionError::Host { action: "measure the host's speed".into(), source }
}

/// An initramfs with an `/init` that is not executable.
fn least_initramfs() -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    cpio_archive::write(&[CpioEntry::program("init", b"no program".to_vec())], &mut file)?;
    Ok(file)
}
