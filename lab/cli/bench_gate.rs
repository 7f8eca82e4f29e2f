//! `lab bench gate`: how long the release gate takes for the images of a platform.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use clap::Args;
use lab::places::Places;
use lab_model::ExitCode;
use lab_oci::registry::{Registry, Store};
use lab_recipe::platform_layout;
use serde::Serialize;
use serde_json::Value;

use super::{Failed, print_json, say, tell};

/// Measure the release gate over container images in a local registry: cold, and with its cache.
#[derive(Args)]
pub struct BenchGate {
    /// Number of images
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=500))]
    images: u16,
    /// Size of each image, packed, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1500))]
    mib: u16,
    /// Directory of the images and of the cache [default: bench-gate in the default directory of the runs]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The figures of one gate.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    what: &'static str,
    seconds: f64,
    peak_mib: u64,
    read_mib: u64,
}

impl BenchGate {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let internal = |error: &dyn std::fmt::Display| Failed::new(ExitCode::Internal, error);
        tell!("{} images of {} MiB", self.images, self.mib);
        let directory = self.directory.unwrap_or_else(|| Places::here().runs().join("bench-gate"));
        let (layout, names) =
            platform_layout(&directory, self.images, self.mib).map_err(|error| internal(&error))?;
        let store = Store::open(&[layout]).map_err(|error| internal(&error))?;
        let registry = Registry::start(store).await.map_err(|error| internal(&error))?;
        let at = registry.address();
        let list: String = names
            .iter()
            .map(|name| format!("    - {}\n", name.replacen("docker.io", &at.to_string(), 1)))
            .collect();
        let work = tempfile::tempdir_in(&directory).map_err(|error| internal(&error))?;
        let release = work.path().join("release.yaml");
        let text = format!("release: v1.5.1-1.13.5-4\ncontainers:\n  images:\n{list}");
        fs::write(&release, text).map_err(|error| internal(&error))?;
        let mut all = Vec::new();
        for what in ["cold", "cached"] {
            let (release, cache) = (release.clone(), work.path().join("cache"));
            let measured = tokio::task::spawn_blocking(move || measure(what, &release, &cache)).await;
            let figures = measured.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
            tell!("{what}: {:.1} s", figures.seconds);
            all.push(figures);
        }
        if self.json {
            print_json(&all)?;
        } else {
            say!("| {} images of {} MiB | time, s | peak memory, MiB | read, MiB |", self.images, self.mib);
            say!("| --- | --- | --- | --- |");
            for Figures { what, seconds, peak_mib, read_mib } in &all {
                say!("| {what} | {seconds:.1} | {peak_mib} | {read_mib} |");
            }
        }
        Ok(ExitCode::Passed)
    }
}

/// Runs a gate as a process of its own, and follows its memory.
fn measure(what: &'static str, release: &Path, cache: &Path) -> Result<Figures, String> {
    let error = |error: std::io::Error| error.to_string();
    let out = tempfile::tempfile().map_err(error)?;
    let begun = Instant::now();
    let mut child = std::process::Command::new(std::env::current_exe().map_err(error)?)
        .args(["gate", "--json", "--cache"])
        .args([cache, release])
        .env_remove("GITHUB_STEP_SUMMARY")
        .stdout(out.try_clone().map_err(error)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(error)?;
    let mut peak_mib = 0;
    let status = loop {
        // The kernel keeps the peak until the process ends.
        if let Some(peak) = peak_of(child.id()) {
            peak_mib = peak;
        }
        match child.try_wait().map_err(error)? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = out;
    std::io::Seek::rewind(&mut out).map_err(error)?;
    let verdict: Value = serde_json::from_reader(out).map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("the gate ended with {status}: {}", verdict["findings"]));
    }
    Ok(Figures { what, seconds, peak_mib, read_mib: verdict["read"].as_u64().unwrap_or(0) >> 20 })
}

/// The peak resident memory of a process (proc_pid_status(5), `VmHWM`), in MiB.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib >> 10)
}
