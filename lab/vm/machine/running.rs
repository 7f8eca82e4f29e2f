//! One running VM.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream as StdStream},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use lab_model::{
    accelerator::Accelerator,
    events::Recorder,
    files::{create_private, create_private_directory},
};
use tokio::{net::UnixListener, sync::watch};

use super::{
    ConsoleMark, MachineError, MachineFailure, MachineSpec, MigrationState, QemuBinary, Qmp, Usage, Wiring,
    arguments,
    console::Console,
    shell_line,
    usage::record_usage,
    watcher::{Watcher, attach_console, in_words, observer, report_exit, tail_of},
};
use crate::{
    machine::usage::{self},
    process::{ChildOptions, Process, Processes, SocketDirectory},
};

/// The maximum time until QEMU connects its console and monitor; 0.1 s on an idle host.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The maximum time until QEMU quits on request, before the lab kills it.
const QUIT_PATIENCE: Duration = Duration::from_secs(5);

/// The maximum time to wait for a guest that does not read its serial console.
const TYPE_PATIENCE: Duration = Duration::from_secs(2);

/// One QEMU process with its console and monitor. Dropping it kills the process.
pub struct Machine {
    spec: MachineSpec,
    process: Arc<Process>,
    qmp: Qmp,
    console: Console,
    /// The input of the guest's serial port.
    keyboard: StdStream,
    watcher: Arc<Watcher>,
    /// Console lines before this position belong to an earlier boot of the guest.
    life: watch::Sender<ConsoleMark>,
    _sockets: SocketDirectory,
}

impl Machine {
    /// Starts the VM and returns once its console and monitor are connected. The guest has then just
    /// started (or waits, if `spec.paused` is set).
    ///
    /// # Errors
    /// Fails if a file cannot be written, QEMU does not start, or QEMU ends immediately. The error
    /// then contains QEMU's output.
    pub fn start<'a>(
        qemu: &'a QemuBinary,
        accelerator: Accelerator,
        spec: MachineSpec,
        processes: &'a Processes,
        recorder: Recorder,
    ) -> BoxFuture<'a, Result<Self, MachineError>> {
        Self::start_qemu(qemu, accelerator, spec, processes, recorder).boxed()
    }

    async fn start_qemu(
        qemu: &QemuBinary,
        accelerator: Accelerator,
        spec: MachineSpec,
        processes: &Processes,
        recorder: Recorder,
    ) -> Result<Self, MachineError> {
        let node = spec.name.clone();
        let failed = |action: &'static str, path: &Path| {
            let (node, path) = (node.clone(), path.to_owned());
            move |source: io::Error| MachineError::File { node, action, path, source }
        };
        create_private_directory(&spec.directory).map_err(failed("create", &spec.directory))?;
        let sockets =
            SocketDirectory::create().map_err(failed("make a socket directory in", Path::new("/tmp")))?;
        let listen = |name: &str| {
            let path = sockets.socket(name)?;
            Ok((UnixListener::bind(&path)?, path))
        };
        let (console_listener, console_path) =
            listen("console").map_err(failed("listen for the console in", sockets.path()))?;
        let (qmp_listener, qmp_path) =
            listen("qmp").map_err(failed("listen for the monitor in", sockets.path()))?;
        let log = create_private(&spec.console_log()).map_err(failed("write", &spec.console_log()))?;
        let stderr = create_private(&spec.stderr_log()).map_err(failed("write", &spec.stderr_log()))?;
        write_script(qemu, accelerator, &spec).map_err(failed("write", &spec.command_file()))?;

        let wiring = Wiring::Lab { console: console_path, qmp: qmp_path };
        let mut command = Command::new(&qemu.path);
        command
            .args(qemu.confinement())
            .args(arguments(accelerator, &spec, &wiring))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let process = processes
            .spawn_with(
                node.as_str(),
                command,
                ChildOptions {
                    sockets: Some(sockets.path()),
                    share: spec.cpu_share,
                    niceness: spec.niceness,
                },
            )
            .await
            .map_err(|source| MachineError::Process { node: node.clone(), source })?;

        let connected = async { tokio::try_join!(console_listener.accept(), qmp_listener.accept()) };
        let (console_stream, qmp_stream) = tokio::select! {
            both = connected => {
                let ((console, _), (qmp, _)) = both.map_err(failed("accept QEMU in", sockets.path()))?;
                (console, qmp)
            }
            status = process.wait() => return Err(refused(&spec, status)),
            () = tokio::time::sleep(START_PATIENCE) => {
                return Err(MachineError::Silent { node, seconds: START_PATIENCE.as_secs() });
            }
        };

        let watcher = Arc::new(Watcher {
            node: node.clone(),
            recorder: recorder.clone(),
            failure: watch::Sender::new(None),
            migration: watch::Sender::new(MigrationState::Active),
            ending: AtomicBool::new(false),
            // Such a machine stops once more when its memory is loaded.
            pausing: AtomicBool::new(spec.paused || spec.incoming),
            killed: AtomicBool::new(false),
        });
        let keyboard = console_stream.as_fd().try_clone_to_owned().map(StdStream::from);
        let keyboard = keyboard.map_err(failed("write to the console in", sockets.path()))?;
        let console = attach_console(console_stream, log, &watcher)
            .map_err(failed("read the console from", sockets.path()))?;
        let life = watch::Sender::new(ConsoleMark::default());
        let (qmp, listening) = match Qmp::connect(qmp_stream, observer(&watcher)).await {
            Ok(connected) => connected,
            // QEMU connects before it has checked all of its arguments.
            Err(source) => match tokio::time::timeout(QUIT_PATIENCE, process.wait()).await {
                Ok(status) => return Err(refused(&spec, status)),
                Err(_) => return Err(MachineError::Monitor { node, action: "talk to the monitor", source }),
            },
        };
        let process = Arc::new(process);
        tokio::spawn(record_usage(Arc::clone(&process), node, recorder));
        let last_words = {
            let console = console.clone();
            async move {
                console.closed().await;
                // The task fails only by a panic, which has been printed.
                let _ = listening.await;
            }
        };
        tokio::spawn(report_exit(
            Arc::clone(&process),
            last_words,
            console.clone(),
            Arc::clone(&watcher),
            spec.stderr_log(),
        ));
        Ok(Self { spec, process, qmp, console, keyboard, watcher, life, _sockets: sockets })
    }

    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// The process ID of QEMU.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resolves when the VM ends unexpectedly, or its console shows a fatal line; never otherwise.
    /// Any number of tasks can wait, at any time. A power cycle clears an old failure.
    pub async fn failure(&self) -> MachineFailure {
        let mut failure = self.watcher.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // The watcher outlives this borrow, so its sender is alive.
            _ => std::future::pending().await,
        }
    }

    /// The current failure, if any.
    pub fn failed(&self) -> Option<MachineFailure> {
        self.watcher.failure.borrow().clone()
    }

    /// The last `n` console lines, without terminal escapes.
    pub fn console_tail(&self, n: usize) -> Vec<String> {
        self.console.tail(n)
    }

    /// Types at the serial console. Blocks until the guest's serial port has accepted the keys.
    ///
    /// # Errors
    /// Fails if the guest does not accept the keys within two seconds, or QEMU is gone.
    pub fn type_keys(&self, keys: &[u8]) -> io::Result<()> {
        self.keyboard.set_write_timeout(Some(TYPE_PATIENCE))?;
        (&self.keyboard).write_all(keys)
    }

    /// Whether the QEMU process has ended.
    pub fn has_ended(&self) -> bool {
        self.process.exit_status().is_some()
    }

    /// The position after the current last console line.
    pub fn console_mark(&self) -> ConsoleMark {
        self.console.mark()
    }

    /// Waits for a console line that contains `text`, printed since the VM was started or last
    /// power-cycled by the lab. There is no timeout: callers race it against a deadline.
    ///
    /// # Errors
    /// Returns the failure, if the VM fails first.
    pub async fn wait_console(&self, text: &str) -> Result<String, MachineFailure> {
        let life = *self.life.borrow();
        self.wait_console_after(life, text).await
    }

    /// Same as [`Machine::wait_console`], for lines after `mark`.
    ///
    /// # Errors
    /// Returns the failure, if the VM fails first.
    pub async fn wait_console_after(&self, mark: ConsoleMark, text: &str) -> Result<String, MachineFailure> {
        tokio::select! {
            // A line that matches and is also fatal counts as a match.
            biased;
            Some(line) = self.console.wait_for(mark, text) => Ok(line),
            failure = self.failure() => Err(failure),
        }
    }

    /// Switches the power off and on. The guest cannot prepare for it. Disk and network stay.
    ///
    /// # Errors
    /// Fails if the monitor fails.
    pub async fn power_cycle(&self) -> Result<(), MachineError> {
        self.life.send_replace(self.console.mark());
        self.command(qapi::qmp::system_reset {}, "power-cycle it").await?;
        self.watcher.failure.send_if_modified(|failure| {
            let forget = matches!(failure, Some(MachineFailure::Console { .. }));
            if forget {
                *failure = None;
            }
            forget
        });
        Ok(())
    }

    /// Stops the CPUs. The guest's time stops as well.
    ///
    /// # Errors
    /// Fails if the monitor fails.
    pub async fn pause(&self) -> Result<(), MachineError> {
        // Before the command, because the event can arrive before the answer.
        self.watcher.pausing.store(true, Ordering::Relaxed);
        self.command(qapi::qmp::stop {}, "stop its CPUs").await
    }

    /// Starts the stopped CPUs.
    ///
    /// # Errors
    /// Fails if the monitor fails.
    pub async fn resume(&self) -> Result<(), MachineError> {
        self.command(qapi::qmp::cont {}, "start its CPUs").await?;
        self.watcher.pausing.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the CPUs run.
    ///
    /// # Errors
    /// Fails if the monitor fails.
    pub async fn is_running(&self) -> Result<bool, MachineError> {
        Ok(self.query(qapi::qmp::query_status {}, "query its state").await?.running)
    }

    /// Presses the power button. A guest that handles the event shuts down, and QEMU ends. From now
    /// on, this end counts as expected.
    ///
    /// # Errors
    /// Fails if the monitor fails.
    pub async fn press_power_button(&self) -> Result<(), MachineError> {
        self.expect_power_off();
        self.command(qapi::qmp::system_powerdown {}, "press its power button").await
    }

    /// Counts the end of QEMU as expected from now on, because the guest was told to power itself off.
    pub fn expect_power_off(&self) {
        self.watcher.ending.store(true, Ordering::Relaxed);
    }

    /// Waits until QEMU has ended. Returns whether it ended as after a power-off of the guest.
    pub async fn ended(&self) -> bool {
        self.process.wait().await.success()
    }

    /// The monitor, for commands without a method here.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Current memory and processor time of the QEMU process.
    ///
    /// # Errors
    /// Fails if the process is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        usage::usage(self.pid())
    }

    /// Kills the QEMU process like an accident: the machine then counts as failed.
    pub fn kill(&self) {
        self.watcher.killed.store(true, Ordering::Relaxed);
        self.process.kill();
    }

    /// Whether [`Machine::kill`] ended it.
    pub fn was_killed(&self) -> bool {
        self.watcher.killed.load(Ordering::Relaxed)
    }

    /// Ends the VM. Requests QEMU to quit, and kills it if it has not quit after five seconds.
    /// Returns once the process is gone.
    pub async fn quit(self) {
        self.watcher.ending.store(true, Ordering::Relaxed);
        let asked = async {
            // QEMU may end before it answers, so only the exit counts.
            let _ = self.qmp.execute(qapi::qmp::quit {}).await;
            self.process.wait().await;
        };
        if tokio::time::timeout(QUIT_PATIENCE, asked).await.is_err() {
            self.process.kill();
            self.process.wait().await;
        }
    }

    /// Clears the result of an earlier save or load.
    pub(super) fn forget_migration(&self) {
        self.watcher.migration.send_replace(MigrationState::Active);
    }

    /// Waits until memory is saved or loaded, or the migration fails.
    pub(super) async fn migration_ended(&self) -> MigrationState {
        let mut state = self.watcher.migration.subscribe();
        match state.wait_for(|state| *state != MigrationState::Active).await.map(|state| *state) {
            Ok(state) => state,
            // The watcher outlives this borrow, so its sender is alive.
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) async fn command<C>(&self, command: C, action: &'static str) -> Result<(), MachineError>
    where
        C: qapi::qmp::QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        self.query(command, action).await.map(drop)
    }

    pub(super) async fn query<C>(&self, command: C, action: &'static str) -> Result<C::Ok, MachineError>
    where
        C: qapi::qmp::QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        self.qmp.execute(command).await.map_err(|source| match self.failed() {
            // The monitor of a dead QEMU does not answer, so the cause is the death of QEMU.
            Some(failure @ MachineFailure::Exited { .. }) => MachineError::Failed(failure),
            _ => MachineError::Monitor { node: self.spec.name.clone(), action, source },
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.watcher.ending.store(true, Ordering::Relaxed);
        self.process.kill();
    }
}

fn refused(spec: &MachineSpec, status: ExitStatus) -> MachineError {
    MachineError::Refused {
        node: spec.name.clone(),
        status: in_words(status),
        stderr: tail_of(&spec.stderr_log()),
        command: spec.command_file(),
    }
}

/// Writes a script for people that starts the same VM, next to the logs.
fn write_script(qemu: &QemuBinary, accelerator: Accelerator, spec: &MachineSpec) -> io::Result<()> {
    let by_hand = shell_line(&qemu.path, &arguments(accelerator, spec, &Wiring::Terminal));
    let mut file = create_private(&spec.command_file())?;
    write!(
        file,
        "#!/bin/sh\n# {} by hand: console and monitor on this terminal (Ctrl-A x ends it), its network on\n\
         # QEMU's own NAT instead of the lab's switch.\nexec {by_hand}\n",
        spec.name
    )?;
    file.set_permissions(fs::Permissions::from_mode(0o700))
}
