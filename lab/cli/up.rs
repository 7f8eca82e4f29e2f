//! `lab up`: a cluster for hands-on work.

use std::path::Path;

use clap::Args;
use lab::{
    cluster::{Cluster, ClusterSpec},
    events::Outcome,
    host::{Ending, ExitCode},
    node::NodeName,
    report::Display,
    session::{ClusterRequest, Session, write_bundle},
};

use super::{Failed, Guests, asked_to_end, say_where};

/// Form a cluster and keep it until Ctrl-C.
#[derive(Args)]
pub struct Up {
    /// Number of nodes: one control plane, the rest workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Name of the cluster
    #[arg(long, default_value = "lab")]
    name: NodeName,
    #[command(flatten)]
    guests: Guests,
}

impl Up {
    pub(super) async fn up(self) -> Result<ExitCode, Failed> {
        let spec = ClusterSpec::of_compute_nodes(self.name.clone(), 1, usize::from(self.nodes) - 1)
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let session = Session::open(self.guests.options(self.name.as_str(), Display::for_stderr())).await?;
        say_where(&session);
        let running = session.start(ClusterRequest::new(spec)).await?;
        session.publish(&running.cluster, "forming")?;
        let formed = tokio::select! {
            formed = running.cluster.form() => Some(formed),
            () = asked_to_end() => None,
        };
        let (outcome, ending, code) = match formed {
            None => interrupted(),
            Some(Err(failure)) => {
                let cause = failure.to_string();
                write_bundle(&running.cluster, &cause)
                    .await
                    .map_err(|error| Failed::new(ExitCode::Internal, error))?;
                eprintln!("error: {cause}\nbundle: {}", session.path().join("bundle").display());
                (Outcome::Failed { cause }, Ending::Failed, ExitCode::VerdictFailed)
            }
            Some(Ok(())) => {
                let kubeconfig = session.save_kubeconfig(&running.cluster)?;
                session.publish(&running.cluster, "ready")?;
                println!("{}", how_to(&running.cluster, &kubeconfig, &session.path().join("talosconfig")));
                asked_to_end().await;
                interrupted()
            }
        };
        running.shut_down().await;
        session.close(outcome, ending).await?;
        Ok(code)
    }
}

/// The end of a cluster that its user has ended is no failure.
fn interrupted() -> (Outcome, Ending, ExitCode) {
    (Outcome::NotRun { cause: "ended by its user".into() }, Ending::Interrupted, ExitCode::Interrupted)
}

fn how_to(cluster: &Cluster, kubeconfig: &Path, talosconfig: &Path) -> String {
    let mut text = format!(
        "\nThe cluster is ready.\n\n  export KUBECONFIG={}\n  kubectl get nodes -o wide\n\n  export TALOSCONFIG={}\n",
        kubeconfig.display(),
        talosconfig.display()
    );
    for node in &cluster.plan().nodes {
        if let Some(api) = cluster.machine_api(&node.spec.name) {
            text.push_str(&format!(
                "  # machine API of {} ({}), certificate for {}: {api}\n",
                node.spec.name, node.spec.kind, node.address
            ));
        }
    }
    text.push_str("\nlab console NODE shows a serial console; Ctrl-C here, or lab down, ends the cluster.");
    text
}
