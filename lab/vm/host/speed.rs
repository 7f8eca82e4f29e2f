//! The speed of this host, so that budgets have the same meaning on every host.
//!
//! Budgets are written for the reference host. There, the bare kernel of the reference image reaches
//! its first user process in [`REFERENCE_BOOT`]. The same measurement on this host, divided by that
//! value, is the speed factor. It depends on the host, the accelerator, QEMU and the image, and is
//! cached for a while.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_model::files::{FileLock, replace_file};
use serde::{Deserialize, Serialize};

/// Time from QEMU start to first user process on the reference host (2 x86-64 cores, TCG, QEMU 7.2).
pub const REFERENCE_BOOT: Duration = Duration::from_millis(1400);

/// How long a measurement is valid. The speed of shared machines drifts by a third within hours, and
/// a measurement takes a second or two.
pub const MEASUREMENT_LIFETIME: Duration = Duration::from_secs(3600);

/// How often the load of the host is sampled.
const LOAD_SAMPLES: u32 = 5;
const BETWEEN_SAMPLES: Duration = Duration::from_millis(10);

/// How many times slower than the reference host; below 1 is faster.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SpeedFactor(f64);

impl SpeedFactor {
    /// The reference host itself; also the default without a measurement.
    pub const REFERENCE: SpeedFactor = SpeedFactor(1.0);
    /// A factor outside this range is considered an error and clamped.
    const RANGE: (f64, f64) = (0.02, 50.0);
    /// Budgets never shrink below this share: a large part of a formation waits for timers, which do
    /// not run faster on a fast host.
    const SMALLEST_BUDGET_SHARE: f64 = 0.5;

    /// A factor, clamped to a sane range. NaN counts as the reference.
    pub fn new(factor: f64) -> Self {
        if factor.is_nan() { Self::REFERENCE } else { Self(factor.clamp(Self::RANGE.0, Self::RANGE.1)) }
    }

    /// Computes the factor from the measured boot time. The same boot takes [`REFERENCE_BOOT`] on the
    /// reference host.
    pub fn from_boot(seen: Duration) -> Self {
        Self::new(seen.as_secs_f64() / REFERENCE_BOOT.as_secs_f64())
    }

    pub fn get(self) -> f64 {
        self.0
    }

    /// Scales a budget of the reference host to this host.
    pub fn budget(self, reference: Duration) -> Duration {
        reference.mul_f64(self.0.max(Self::SMALLEST_BUDGET_SHARE))
    }

    /// Scales a figure that was measured here to the reference host.
    pub fn normalise(self, measured: Duration) -> Duration {
        measured.div_f64(self.0)
    }

    /// Adjusts the factor from the load at the measurement to the current load.
    ///
    /// With N other runnable threads on C cores, a lab that needs all cores gets C / (C + N) of them.
    /// A momentary load can be an exception, so the correction is limited to a factor of four.
    #[must_use]
    pub fn under(self, now: HostLoad, then: HostLoad) -> Self {
        Self::new(self.0 * (now.slowdown() / then.slowdown()).clamp(1.0, 4.0))
    }
}

impl std::fmt::Display for SpeedFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}", self.0)
    }
}

/// The load of the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    /// The number of threads that are ready to run, without the calling thread.
    pub runnable: f64,
    /// Cores available to this process.
    pub cores: usize,
}

impl HostLoad {
    /// Samples the load, which takes some hundredths of a second. Returns an idle load if the host
    /// does not report it.
    pub fn now() -> Self {
        Self { runnable: runnable_threads().unwrap_or(0.0), cores: cores() }
    }

    fn slowdown(self) -> f64 {
        1.0 + self.runnable.max(0.0) / self.cores.max(1) as f64
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Avoids the load average where possible: for a minute or two it includes the lab's own last run,
/// and the nodes would then wait for each other on an idle host.
fn runnable_threads() -> Option<f64> {
    if cfg!(target_os = "linux") {
        let mut sum = 0.0;
        for sample in 0..LOAD_SAMPLES {
            if sample > 0 {
                std::thread::sleep(BETWEEN_SAMPLES);
            }
            sum += running_in(&std::fs::read_to_string("/proc/loadavg").ok()?)?;
        }
        return Some(sum / f64::from(LOAD_SAMPLES));
    }
    // macOS reports only the load average, as "{ 1.95 2.05 2.10 }".
    let output = std::process::Command::new("sysctl").args(["-n", "vm.loadavg"]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

/// The running and runnable threads, without the calling thread (`proc_loadavg(5)`: the fourth field
/// is their number, a slash, and the total number of threads).
fn running_in(loadavg: &str) -> Option<f64> {
    let running: f64 = loadavg.split(' ').nth(3)?.split('/').next()?.parse().ok()?;
    Some((running - 1.0).max(0.0))
}

/// The conditions under which a measurement is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedKey {
    /// The host: name, CPU model, cores.
    pub host: String,
    /// QEMU's version text.
    pub qemu: String,
    /// The accelerator (`kvm`, `hvf`, `tcg`), with its CPU model.
    pub accelerator: String,
    /// Digest of the image with the booted kernel.
    pub image: String,
}

impl SpeedKey {
    fn text(&self) -> String {
        format!("{} | {} | {} | {}", self.host, self.qemu, self.accelerator, self.image)
    }
}

/// A cached measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedMeasurement {
    pub factor: SpeedFactor,
    /// The load of the host during the measurement.
    pub load: HostLoad,
    /// Time of the measurement, wall clock.
    pub at: jiff::Timestamp,
}

impl SpeedMeasurement {
    /// Creates a measurement with the current time.
    pub fn new(boot: Duration, load: HostLoad) -> Self {
        Self { factor: SpeedFactor::from_boot(boot), load, at: jiff::Timestamp::now() }
    }

    fn is_fresh(&self, now: jiff::Timestamp) -> bool {
        let age = now.duration_since(self.at);
        // A time in the future means that the clock was set back.
        !age.is_negative() && age.unsigned_abs() < MEASUREMENT_LIFETIME
    }
}

/// The measurements in one file, usually `target/lab/speed.json`.
#[derive(Clone, Debug)]
pub struct SpeedCache {
    path: PathBuf,
}

type Kept = BTreeMap<String, SpeedMeasurement>;

impl SpeedCache {
    /// A cache in this file. The file does not have to exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The measurement for exactly this key, if it is still valid.
    pub fn get(&self, key: &SpeedKey) -> Option<SpeedMeasurement> {
        self.read().get(&key.text()).filter(|m| m.is_fresh(jiff::Timestamp::now())).copied()
    }

    /// Stores a measurement and drops expired measurements.
    ///
    /// # Errors
    /// Fails if the file cannot be written; the measurement itself remains valid.
    pub fn put(&self, key: &SpeedKey, measurement: SpeedMeasurement) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let _lock = FileLock::acquire(&lock_path(&self.path))?;
        let mut kept = self.read();
        kept.retain(|_, m| m.is_fresh(measurement.at));
        kept.insert(key.text(), measurement);
        replace_file(&self.path, &serde_json::to_vec_pretty(&kept)?)
    }

    /// A file that is missing or from another version counts as empty, because it is only a cache.
    fn read(&self) -> Kept {
        let text = std::fs::read(&self.path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

/// A name for this host that changes when its processor does.
pub fn host_key() -> String {
    let name = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let model = if cfg!(target_os = "linux") {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("model name") || l.starts_with("CPU part"));
        line.and_then(|l| l.split_once(':')).map(|(_, model)| model.trim().to_owned()).unwrap_or_default()
    } else {
        let output = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    format!("{name}, {model}, {} cores", cores())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: HostLoad = HostLoad { runnable: 0.0, cores: 2 };

    #[test]
    fn budgets_grow_with_the_factor_and_shrink_only_so_far() {
        let minute = Duration::from_secs(60);
        assert_eq!(SpeedFactor::from_boot(REFERENCE_BOOT * 2).budget(minute), minute * 2);
        assert_eq!(SpeedFactor::from_boot(REFERENCE_BOOT / 10).budget(minute), minute / 2);
        assert_eq!(SpeedFactor::new(f64::NAN), SpeedFactor::REFERENCE);
        assert_eq!(SpeedFactor::from_boot(Duration::ZERO).get(), 0.02);
        assert_eq!(SpeedFactor::new(2.0).normalise(minute), minute / 2);
    }

    #[test]
    fn strangers_on_the_host_slow_it_down_but_not_without_bound() {
        let busy = HostLoad { runnable: 2.0, cores: 2 };
        let factor = SpeedFactor::new(1.5);
        assert_eq!(factor.under(busy, IDLE).get(), 3.0);
        assert_eq!(factor.under(busy, busy), factor);
        assert_eq!(factor.under(IDLE, busy), factor, "an idle host is no reason to shorten budgets");
        assert_eq!(factor.under(HostLoad { runnable: 500.0, cores: 2 }, IDLE).get(), 6.0);
    }

    #[test]
    fn the_lab_itself_is_no_load() {
        assert_eq!(running_in("6.35 4.10 2.20 1/512 4242\n"), Some(0.0));
        assert_eq!(running_in("0.00 0.00 0.00 4/512 4242\n"), Some(3.0));
        assert_eq!(running_in("0.00 0.00\n"), None);
    }

    #[test]
    fn a_measurement_is_kept_for_its_key_and_an_hour() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cache = SpeedCache::new(directory.path().join("sub/speed.json"));
        let key = |image: &str| SpeedKey {
            host: host_key(),
            qemu: "7.2".into(),
            accelerator: "tcg".into(),
            image: image.into(),
        };
        assert_eq!(cache.get(&key("a")), None);
        let fresh = SpeedMeasurement::new(Duration::from_secs(2), IDLE);
        cache.put(&key("a"), fresh).expect("kept");
        assert_eq!(cache.get(&key("a")), Some(fresh));
        assert_eq!(cache.get(&key("b")), None);
        let old = SpeedMeasurement { at: fresh.at - MEASUREMENT_LIFETIME, ..fresh };
        cache.put(&key("a"), old).expect("kept");
        assert_eq!(cache.get(&key("a")), None);
        let future = SpeedMeasurement { at: fresh.at + Duration::from_secs(3600), ..fresh };
        cache.put(&key("a"), future).expect("kept");
        assert_eq!(cache.get(&key("a")), None);
    }
}
