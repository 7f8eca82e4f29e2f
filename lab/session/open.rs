//! Opens and closes a run.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::formation::RealTailnet;
use lab_model::{
    Ending, RunDirectoryError, RunResult, Source,
    accelerator::{Accelerator, AcceleratorError, CpuModel},
    events::{EventKind, FORMAT, Outcome, Recorder, Shard, Subject},
    node::Role,
};
use lab_oci::images::{ImageStore, LOCK_FILE, Lock, OciError};
use lab_report::{Display, JsonLines, RECORDING, SignatureError, Signatures, display, leave_reports};
use lab_vm::{
    host::{DEFAULT_RUNS_KEPT, ReserveError, RunDirectory, host_memory, prune, reap},
    machine::{HostPlatform, QemuBinary, QemuError, choose_accelerator},
    network::HostPort,
    process::{CpuShare, Processes},
};
use tokio::{sync::watch, task::JoinHandle};

use super::pause::{OnFailure, Pause};
use crate::places::Places;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The parent directory of all runs, e.g. `target/lab`.
    pub root: PathBuf,
    /// The title for the user, and the start of the run directory's name.
    pub title: String,
    pub display: Display,
    /// The emulator. Default: the one on `PATH`.
    pub qemu: Option<PathBuf>,
    /// The accelerator. Default: the best available one.
    pub accelerator: Option<Accelerator>,
    /// The CPU model of the guests. Default: the best model of the accelerator.
    pub cpu_model: Option<CpuModel>,
    /// The share of time in which each VM runs, to simulate a slow host.
    pub cpu_share: CpuShare,
    /// The directory with the images of `make images`.
    pub images: PathBuf,
    /// Images of roles that replace the reference node's images.
    pub given: BTreeMap<Role, Source>,
    /// Image layouts that nodes pull from, in addition to the workloads of `make images`.
    pub mirrors: Vec<PathBuf>,
    /// The mirror for images that no layout contains, if the run may fetch them.
    pub pull_through: Option<PathBuf>,
    /// The registries from which images for guests are fetched with the user's credentials.
    pub pull_through_credentials: Vec<String>,
    /// Whether to form every cluster, even if a saved cluster matches.
    pub cold: bool,
    /// Ports of the host's loopback that nodes may reach at the gateway, besides those that the lab serves.
    pub host_ports: Vec<HostPort>,
    pub lock: PathBuf,
    /// The part of a larger run, if this run is a shard.
    pub shard: Option<Shard>,
    /// Whether the run starts several clusters in sequence, each in its own directory.
    pub several: bool,
    /// The user's own tailnet. It replaces the run's tailnet in every cluster with a tailnet.
    pub tailnet: Option<RealTailnet>,
    /// The action after an unexpected failure.
    pub on_failure: OnFailure,
    /// Whether checks may run programs on this host that a scenario names.
    pub allow_run: bool,
    /// Additional signature files to compare with the recording, beside the lab's own.
    pub signatures: Vec<PathBuf>,
}

impl SessionOptions {
    /// The default options for a run with this `title`, in the current directory.
    pub fn new(title: impl Into<String>) -> Self {
        let places = Places::here();
        Self {
            root: places.runs(),
            title: title.into(),
            display: Display::for_stderr(),
            qemu: None,
            accelerator: None,
            cpu_model: None,
            cpu_share: CpuShare::WHOLE,
            images: places.images().unwrap_or_else(|_| places.built()),
            given: BTreeMap::new(),
            mirrors: Vec::new(),
            pull_through: None,
            pull_through_credentials: Vec::new(),
            cold: false,
            host_ports: Vec::new(),
            lock: PathBuf::from(LOCK_FILE),
            shard: None,
            several: false,
            tailnet: None,
            on_failure: OnFailure::default(),
            allow_run: false,
            signatures: Vec::new(),
        }
    }
}

impl SessionOptions {
    /// The store of images from references and archives, kept between runs.
    ///
    /// # Errors
    /// If the lock file cannot be read.
    pub fn image_store(&self) -> Result<ImageStore, OciError> {
        Ok(ImageStore::new(self.root.join("cache"), Lock::read(&self.lock)?))
    }
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    #[error(transparent)]
    Qemu(#[from] QemuError),
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// Another operation on the host.
    #[error("{action}: {source}")]
    Host {
        /// The failed operation.
        action: String,
        /// The error from the operating system.
        source: io::Error,
    },
    #[error(transparent)]
    Memory(#[from] ReserveError),
    #[error(transparent)]
    Signatures(#[from] SignatureError),
}

pub struct Session {
    pub(super) options: SessionOptions,
    pub(super) directory: RunDirectory,
    pub(super) recorder: Recorder,
    pub(super) processes: Processes,
    pub(super) qemu: QemuBinary,
    pub(super) accelerator: Accelerator,
    pub(super) pause: watch::Sender<Pause>,
    signatures: Signatures,
    recording: JsonLines,
    view: JoinHandle<()>,
}

impl Session {
    /// Cleans up after dead runs, creates the run directory, starts recording and display, and detects the
    /// capabilities of the host.
    ///
    /// # Errors
    /// If the host does not have a requirement of every run.
    pub fn open(options: SessionOptions) -> BoxFuture<'static, Result<Self, SessionError>> {
        Self::open_in_root(options).boxed()
    }

    async fn open_in_root(options: SessionOptions) -> Result<Self, SessionError> {
        let host = |action: &str| {
            let action = action.to_owned();
            move |source| SessionError::Host { action, source }
        };
        let signatures = Signatures::with_files(&options.signatures)?;
        let (root, known) = (options.root.clone(), signatures.clone());
        let reaped = tokio::task::spawn_blocking(move || {
            let reaped = reap(&root)?;
            for run in reaped.iter().filter(|run| run.died) {
                // The dead run gets reports like any other run. If this fails, nothing else is lost.
                let _ = leave_reports(&root.join(&run.run), &known);
            }
            prune(&root, DEFAULT_RUNS_KEPT)?;
            Ok::<_, RunDirectoryError>(reaped)
        })
        .await
        .map_err(io::Error::other)
        .map_err(host("clean up after earlier runs"))??;
        let directory = RunDirectory::create(&options.root, &options.title)?;
        let recorder = Recorder::new();
        let recording = JsonLines::start(recorder.subscribe(), &directory.path().join(RECORDING))
            .map_err(host("record the run's events"))?;
        let view = display(recorder.subscribe(), options.display);
        recorder.record(EventKind::RunStarted {
            run: directory.name().to_owned(),
            title: options.title.clone(),
            wall: jiff::Timestamp::now(),
            format: FORMAT,
            shard: options.shard.clone(),
        });
        recorder.record(EventKind::HostSeen {
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: host_memory().ok().map(|memory| memory.total_mib),
        });
        for run in &reaped {
            recorder.record(EventKind::Note { subject: Subject::Cluster, text: run.to_string() });
        }
        let qemu = QemuBinary::find(options.qemu.as_deref()).await?;
        if !qemu.sandbox {
            let text = format!(
                "{} was built without seccomp: QEMU runs without -sandbox, and a guest that takes it over has all \
                 rights of this user",
                qemu.path.display()
            );
            recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        }
        let (accelerator, _) = choose_accelerator(&HostPlatform::current(), &qemu, options.accelerator)?;
        let processes = Processes::new(directory.processes()).map_err(host("start child processes"))?;
        let pause = watch::Sender::default();
        Ok(Self {
            options,
            directory,
            recorder,
            processes,
            qemu,
            accelerator,
            pause,
            signatures,
            recording,
            view,
        })
    }

    /// The absolute path of the run directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn name(&self) -> &str {
        self.directory.name()
    }

    /// The signatures to compare with the recording at the end of the run.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Whether checks may run programs on this host that a scenario names.
    pub fn allows_programs(&self) -> bool {
        self.options.allow_run
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The run directory, where the run stores access data of its live cluster.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// Records the verdict, ends all displays, and writes reports and result to the run directory.
    ///
    /// # Errors
    /// If the recording, the reports or the result cannot be written.
    pub fn close(self, outcome: Outcome, ending: Ending) -> BoxFuture<'static, Result<(), SessionError>> {
        self.write_result(outcome, ending).boxed()
    }

    async fn write_result(self, outcome: Outcome, ending: Ending) -> Result<(), SessionError> {
        let host = |action: &str| {
            let action = action.to_owned();
            move |source| SessionError::Host { action, source }
        };
        let cause = match &outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed { cause } | Outcome::NotRun { cause } => cause.clone(),
        };
        self.recorder.record(EventKind::RunFinished { outcome });
        self.recorder.close();
        // A panicked display has no further output.
        let _ = self.view.await;
        self.recording.finish().await.map_err(host("record the run's events"))?;
        let (path, signatures) = (self.directory.path().to_owned(), self.signatures);
        let left = tokio::task::spawn_blocking(move || leave_reports(&path, &signatures)).await;
        // The run has ended, even if its reports could not be written.
        self.directory.finish(&RunResult { ending, at: jiff::Timestamp::now(), cause })?;
        left.map_err(io::Error::other).flatten().map_err(host("write the run's reports"))
    }
}
