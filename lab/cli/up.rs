//! `lab up`: a cluster that runs until Ctrl-C.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use futures::future::BoxFuture;
use lab::session::{ClusterRequest, Session, write_bundle};
use lab_cluster::{
    control::ControlServer,
    formation::{Cluster, FormedCluster, SavedStage},
    tailnet::OutsideClient,
};
use lab_model::{
    Ending, ExitCode,
    events::{EventKind, Outcome, Subject, Subscription},
    node::NodeName,
    visible,
    words::chain,
};
use lab_plan::{
    cluster::{ClusterSpec, TailnetSpec},
    scenario::Start,
};
use lab_report::Display;
use lab_vm::machine::MachineFailure;

use super::{
    Failed, Failures, Guests, advice, asked_to_end,
    detach::{DetachOptions, Keeper, Ready},
    output::reader_gone,
    places::RunRoot,
    project::Project,
    say, say_where, scenarios,
    tailnet::TailnetOptions,
    tell, unless_ended,
};

/// Time limit for the outside client to join and to get the routes of the gateway, on the reference host.
const JOIN: Duration = Duration::from_secs(60);

const ENDED_BY_USER: &str = "ended by its user";
pub(super) const STARTER_GONE: &str =
    "the command that started this cluster went away before the cluster was ready";
const READER_GONE: &str = "the reader of standard output has gone, as after `| head`, and the cluster ends with it; write the \
                           output to a file to keep the cluster";

/// Form a cluster and keep it running until Ctrl-C, or beyond with --detach.
#[derive(Args)]
pub struct Up {
    /// Number of nodes: one control plane and workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100), conflicts_with = "scenario")]
    nodes: u16,
    /// Name of the cluster
    #[arg(long, default_value = "lab", conflicts_with = "scenario")]
    name: NodeName,
    /// Restore a saved cluster of the same kind; if there is none, form a cluster and save it
    #[arg(long)]
    warm: bool,
    #[command(flatten)]
    living: LivingOptions,
}

/// Options of the commands that keep a cluster running.
#[derive(Args)]
pub struct LivingOptions {
    /// Use the cluster of a scenario, by file or built-in name; faults and checks of the scenario do not apply
    #[arg(long, value_name = "SCENARIO")]
    scenario: Option<PathBuf>,
    /// Keep the cluster running after it lost a node or the link to this host
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    detach: DetachOptions,
    #[command(flatten)]
    tailnet: TailnetOptions,
    #[command(flatten)]
    failures: Failures,
    #[command(flatten)]
    guests: Guests,
}

impl Up {
    pub(super) async fn up(self) -> Result<ExitCode, Failed> {
        let spec = match self.living.spec()? {
            Some(spec) => spec,
            None => {
                let spec = ClusterSpec::of_compute_nodes(self.name.clone(), 1, usize::from(self.nodes) - 1)
                    .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
                self.living.with_gateway(spec)
            }
        };
        let start = if self.warm { Start::Warm } else { Start::Cold };
        let request = ClusterRequest { start, keep: SavedStage::Configured, ..ClusterRequest::new(spec) };
        self.living.keep(self.name.as_str(), request).await
    }
}

impl LivingOptions {
    /// Makes the cluster stay when the command ends.
    pub(super) fn detach(&mut self) {
        self.detach.detach();
    }

    /// The directory of the runs.
    pub(super) fn run_root(&self) -> &RunRoot {
        &self.guests.run_root
    }

    /// The cluster of the scenario, if the options name a scenario.
    pub(super) fn spec(&self) -> Result<Option<ClusterSpec>, Failed> {
        let Some(file) = &self.scenario else { return Ok(None) };
        let scenario =
            scenarios::load(std::slice::from_ref(file), &self.guests.allowed_paths)?.into_iter().next();
        Ok(scenario.map(|scenario| self.with_gateway(scenario.cluster)))
    }

    /// With a tailnet and without a gateway in `spec`, the last node becomes the gateway.
    fn with_gateway(&self, spec: ClusterSpec) -> ClusterSpec {
        match self.tailnet.tailnet {
            Some(_) if spec.tailnet.is_none() => spec.with_tailnet(TailnetSpec::default()),
            _ => spec,
        }
    }

    /// Starts a cluster and keeps it running until Ctrl-C or a failure. `title` names the run.
    pub(super) async fn keep(self, title: &str, request: ClusterRequest) -> Result<ExitCode, Failed> {
        if self.detach.starts_keeper() {
            return self.detach.start_keeper().await;
        }
        let mut keeper = self.detach.keeper()?;
        let mut options = self.guests.options(title, Display::for_stderr())?;
        Project::here()?.fill(&mut options)?;
        options.tailnet = self.tailnet.real()?;
        options.on_failure = self.failures.into();
        let session = Session::open(options).await?;
        say_where(&session);
        let running = session.start(request).await?;
        let _control = ControlServer::start(&running.cluster)
            .map_err(|error| Failed::new(ExitCode::Internal, format!("open the control channel: {error}")))?;
        session.publish(&running.cluster, "forming")?;
        let formed = tokio::select! {
            formed = session.form(&running.cluster) => Ok(formed),
            cause = formed_for_nobody(keeper.as_mut()) => Err(cause),
        };
        let (outcome, ending, code) = match formed {
            Err(cause) => interrupted(cause),
            Ok(Err(failure)) => {
                let cause = format!("{failure}{}", advice(&failure.cause));
                tell!("error: {cause}");
                match write_bundle(&running.cluster, &cause).await {
                    Ok(()) => tell!("bundle: {}", session.path().join("bundle").display()),
                    Err(error) => tell!("error: {}", chain(&error)),
                }
                let at = format!("step \"{}\"", failure.step.label());
                let pause = session.pause_at(&running.cluster, &at, &cause);
                if let Some(paused) = unless_ended(&session, pause).await {
                    paused?;
                }
                let of_the_host = failure.is_of_the_host();
                let ending = if of_the_host { Ending::HostUnable } else { Ending::Failed };
                (Outcome::Failed { cause }, ending, code_of(of_the_host))
            }
            Ok(Ok(formed)) => {
                let attached = keeper.is_none();
                let ended = tokio::select! {
                    ended = keep(&session, &formed, self.keep_going, keeper.as_mut()) => ended,
                    () = asked_to_end() => Ok(ENDED_BY_USER.to_owned()),
                    () = reader_gone(), if attached => Ok(READER_GONE.to_owned()),
                };
                match ended {
                    Ok(cause) => interrupted(cause),
                    Err(Failed { code, message, .. }) => {
                        tell!("error: {message}");
                        (Outcome::Failed { cause: message }, Ending::Failed, code)
                    }
                }
            }
        };
        running.shut_down().await;
        session.close(outcome, ending).await?;
        Ok(code)
    }
}

/// Resolves with the reason when nobody waits for a forming cluster any more. A cluster with a keeper ends with the
/// command that started the keeper, and every other cluster with the reader of standard output.
async fn formed_for_nobody(keeper: Option<&mut Keeper>) -> String {
    let unused = async {
        match keeper {
            Some(keeper) => {
                keeper.starter_gone().await;
                STARTER_GONE
            }
            None => {
                reader_gone().await;
                READER_GONE
            }
        }
    };
    tokio::select! {
        () = asked_to_end() => ENDED_BY_USER.to_owned(),
        cause = unused => cause.to_owned(),
    }
}

/// The result of a cluster that is not used any more.
fn interrupted(cause: String) -> (Outcome, Ending, ExitCode) {
    if cause != ENDED_BY_USER {
        tell!("error: {cause}");
    }
    (Outcome::NotRun { cause }, Ending::Interrupted, ExitCode::Interrupted)
}

fn how_to(cluster: &Cluster, kubeconfig: &Path, talosconfig: &Path) -> Result<String, Failed> {
    let addresses: Vec<_> = cluster.plan().nodes.iter().map(|node| node.address.to_string()).collect();
    let mut text = format!(
        "\nThe cluster is ready.\n\n  export KUBECONFIG={}\n  kubectl get nodes -o wide\n\n  export TALOSCONFIG={}\n  \
         talosctl health\n  talosctl -n {} version\n",
        kubeconfig.display(),
        talosconfig.display(),
        addresses.join(",")
    );
    for node in &cluster.plan().nodes {
        let api =
            cluster.machine_api(&node.spec.name).map_err(|error| Failed::new(ExitCode::Internal, error))?;
        text.push_str(&format!(
            "  # machine API of {} ({}), certificate for {}: {api}\n",
            node.spec.name, node.spec.kind, node.address
        ));
    }
    Ok(text)
}

/// Tells how to use the cluster, and keeps it running. Returns the reason when its keeper has to end it, or the failure of
/// the cluster: it has failed when it loses a node or its uplink, unless it is to keep going.
async fn keep(
    session: &Session,
    formed: &FormedCluster,
    keep_going: bool,
    keeper: Option<&mut Keeper>,
) -> Result<String, Failed> {
    let cluster = formed.cluster();
    let mut events = session.recorder().subscribe();
    let kubeconfig = session.save_kubeconfig(formed)?;
    session.publish(cluster, "ready")?;
    let client = join(cluster).await?;
    let talosconfig = session.path().join("talosconfig");
    let reached = client.as_ref().map(how_to_reach).unwrap_or_default();
    let usage = format!(
        "{}{reached}\n\nAccess: lab cluster kubectl, lab cluster exec, lab node console NODE. Faults: lab net, lab node \
         pause|kill|reboot.",
        how_to(cluster, &kubeconfig, &talosconfig)?
    );
    let mut end_of_life: BoxFuture<'_, String> = match keeper {
        None => {
            say!("{usage} Ctrl-C here, or lab down, stops the cluster.");
            Box::pin(std::future::pending())
        }
        Some(keeper) => {
            let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let ready = Ready {
                run: session.name().to_owned(),
                kubeconfig: absolute(&kubeconfig),
                talosconfig: absolute(&talosconfig),
                usage,
            };
            if let Err(cause) = keeper.hand_over(&ready).await {
                return Ok(cause);
            }
            Box::pin(keeper.end_of_life())
        }
    };
    let (mut linked, mut told) = (true, HashSet::new());
    loop {
        let (cause, of_the_host) = tokio::select! {
            reason = &mut end_of_life => return Ok(reason),
            error = cluster.lan().failure(), if linked => {
                linked = false;
                (error.to_string(), false)
            }
            failure = lost_node(&mut events, cluster, &mut told) => {
                (failure.to_string(), failure.is_of_the_host())
            }
        };
        if !keep_going {
            return Err(Failed::new(code_of(of_the_host), cause));
        }
        tell!("error: {cause}");
        session.publish(cluster, &format!("degraded: {}", visible(&cause, 200)))?;
    }
}

fn code_of(failure_of_the_host: bool) -> ExitCode {
    if failure_of_the_host { ExitCode::HostUnable } else { ExitCode::VerdictFailed }
}

/// Resolves when a machine ends or stops without a request of the user. `told` has the failures that were returned before.
async fn lost_node(
    events: &mut Subscription,
    cluster: &Cluster,
    told: &mut HashSet<String>,
) -> MachineFailure {
    while let Some(event) = events.recv().await {
        let (EventKind::MachineExited { node, .. } | EventKind::Note { subject: Subject::Node(node), .. }) =
            event.kind
        else {
            continue;
        };
        let Some(machine) = cluster.machine(&node).filter(|machine| !machine.was_killed()) else { continue };
        match machine.failed() {
            // What the console of a node shows is its own affair from now on.
            None | Some(MachineFailure::Console { .. }) => {}
            Some(failure) if told.insert(failure.to_string()) => return failure,
            Some(_) => {}
        }
    }
    std::future::pending().await
}

/// A client outside the cluster that uses the routes of the gateway, if the cluster has a tailnet.
async fn join(cluster: &Cluster) -> Result<Option<OutsideClient>, Failed> {
    let Some(tailnet) = cluster.tailnet() else { return Ok(None) };
    let client = tailnet.routed_client(cluster.plan().budgets.on_this_host(JOIN)).await;
    client.map(Some).map_err(|error| Failed::new(ExitCode::Internal, error))
}

fn how_to_reach(client: &OutsideClient) -> String {
    format!(
        "\nA tailnet client outside the cluster uses the gateway's routes; through its SOCKS5 proxy, a socket that only you \
         can open, pods and services are reached:\n\n  curl -x socks5h://localhost{} http://POD-IP:PORT/",
        client.proxy().display()
    )
}
