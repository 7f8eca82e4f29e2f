//! Opening and closing a run.

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
    process::Processes,
};
use tokio::{sync::watch, task::JoinHandle};

use super::pause::{OnFailure, Pause};

/// How a run is to be done.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Where runs are kept, e.g. `target/lab`.
    pub root: PathBuf,
    /// What is run, for people; also the start of the run directory's name.
    pub title: String,
    /// How it is shown.
    pub display: Display,
    /// The emulator, unless the one on `PATH`.
    pub qemu: Option<PathBuf>,
    /// The accelerator, unless the best one.
    pub accelerator: Option<Accelerator>,
    /// The guests' CPU model, unless the accelerator's best.
    pub cpu_model: Option<CpuModel>,
    /// Where the images of `make images` are.
    pub images: PathBuf,
    /// Images of roles in place of the reference node's.
    pub given: BTreeMap<Role, Source>,
    /// Image layouts that nodes pull from, beside the workloads of `make images`.
    pub mirrors: Vec<PathBuf>,
    /// The mirror that images are fetched into when nodes ask for what is in none, if they may be.
    pub pull_through: Option<PathBuf>,
    /// Whether every cluster forms, though one like it was saved.
    pub cold: bool,
    /// The lock file of references.
    pub lock: PathBuf,
    /// Which part of a larger run this is, if it is one.
    pub shard: Option<Shard>,
    /// Whether several clusters will be started, one after the other, each in a directory of its own.
    pub several: bool,
    /// The user's own tailnet, in place of the run's own in every cluster that has one.
    pub tailnet: Option<RealTailnet>,
    /// What is done when something fails that should not have.
    pub on_failure: OnFailure,
    /// Files of signatures that the recording is compared with, besides the lab's own.
    pub signatures: Vec<PathBuf>,
}

impl SessionOptions {
    /// The usual options for something called `title`, in the present directory.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            root: PathBuf::from("target/lab"),
            title: title.into(),
            display: Display::for_stderr(),
            qemu: None,
            accelerator: None,
            cpu_model: None,
            images: PathBuf::from("target/images"),
            given: BTreeMap::new(),
            mirrors: Vec::new(),
            pull_through: None,
            cold: false,
            lock: PathBuf::from(LOCK_FILE),
            shard: None,
            several: false,
            tailnet: None,
            on_failure: OnFailure::default(),
            signatures: Vec::new(),
        }
    }
}

impl SessionOptions {
    /// Where images of references and archives are kept between runs.
    ///
    /// # Errors
    /// When the lock file cannot be read.
    pub fn image_store(&self) -> Result<ImageStore, OciError> {
        Ok(ImageStore::new(self.root.join("cache"), Lock::read(&self.lock)?))
    }
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The run's directory.
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// The emulator.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The accelerator.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// Something else of the host.
    #[error("{action}: {source}")]
    Host {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// Memory.
    #[error(transparent)]
    Memory(#[from] ReserveError),
    /// A file of signatures.
    #[error(transparent)]
    Signatures(#[from] SignatureError),
}

/// One run.
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
    /// Cleans up after dead runs, makes the run's directory, starts recording and display, and
    /// asks the host what it can do.
    ///
    /// # Errors
    /// When the host lacks something that no run can do without.
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
                // What it recorded is told like any other run's; when that fails, nothing else is lost.
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

    /// Where the run writes, absolute.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The run's name.
    pub fn name(&self) -> &str {
        self.directory.name()
    }

    /// What the recording is compared with when the run has ended.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// The event stream.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The run's directory, to note how its live cluster is reached.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// Records the verdict, ends all displays and leaves reports and result in the run's directory.
    ///
    /// # Errors
    /// When the recording, the reports or the result cannot be written.
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
        // A display that panicked has nothing more to show.
        let _ = self.view.await;
        self.recording.finish().await.map_err(host("record the run's events"))?;
        let (path, signatures) = (self.directory.path().to_owned(), self.signatures);
        let left = tokio::task::spawn_blocking(move || leave_reports(&path, &signatures)).await;
        // The run has ended, whatever became of its reports.
        self.directory.finish(&RunResult { ending, at: jiff::Timestamp::now(), cause })?;
        left.map_err(io::Error::other).flatten().map_err(host("write the run's reports"))
    }
}
