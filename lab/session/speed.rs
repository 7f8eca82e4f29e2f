//! How fast this host is at the moment, measured with the image's own kernel.
//!
//! A bare kernel boots until it starts its first process, which is none that it can run, and panics;
//! with `panic=-1` and `-no-reboot` QEMU then ends. That is the same work on every host, and it takes a
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
};
use tempfile::NamedTempFile;

use super::open::{Session, SessionError, SessionOptions};

/// How long a bare kernel may take before the host counts as this slow.
const PATIENCE: Duration = Duration::from_secs(90);

impl Session {
    /// The speed factor for `image`, from the cache or measured now. Never below 1: a faster host
    /// needs no shorter limits.
    pub(super) async fn speed_factor(&self, image: &PreparedImage) -> Result<SpeedFactor, SessionError> {
        let key = speed_key(&self.options, &self.qemu, self.accelerator, image);
        let now = tokio::task::spawn_blocking(HostLoad::now).await;
        let now = now.map_err(|error| failed(io::Error::other(error)))?;
        let factor = match kept_measurement(&self.options, &key) {
            Some(known) => known.factor.under(now, known.load),
            None => {
                let seen = self.time_bare_kernel(&image.boot.kernel, &self.cpu_model()).await?;
                let measured = SpeedMeasurement::new(seen, now);
                // Without the cache the next run measures again; nothing else is lost.
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

    /// The CPU model that guests of this run see.
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
        let started = Instant::now();
        let process = self.processes.spawn("speed", command).await;
        let process = process.map_err(|error| failed(io::Error::other(error)))?;
        // Past the limit the process is killed by its drop, and the limit is the measure.
        let _ = tokio::time::timeout(PATIENCE, process.wait()).await;
        Ok(started.elapsed())
    }
}

/// What a measurement with this image is valid for.
pub(super) fn speed_key(
    options: &SessionOptions,
    qemu: &QemuBinary,
    accelerator: Accelerator,
    image: &PreparedImage,
) -> SpeedKey {
    SpeedKey {
        host: host_key(),
        qemu: qemu.version.to_string(),
        accelerator: format!("{accelerator} {}", cpu_model(options, accelerator).as_str()),
        image: image.digest.to_string(),
    }
}

/// The measurement of an earlier run, as long as it is valid.
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

/// An initramfs whose `/init` is no program.
fn least_initramfs() -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    cpio_archive::write(&[CpioEntry::program("init", b"no program".to_vec())], &mut file)?;
    Ok(file)
}
