//! A run that pauses at a failure and keeps its cluster for inspection.

use std::{fmt, path::PathBuf};

use lab_cluster::formation::Cluster;
use lab_model::{
    events::{EventKind, Subject},
    node::NodeName,
};
use tokio::sync::watch;

use super::open::{Session, SessionError};

/// What a run does at an unexpected failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// End the run and write a bundle.
    #[default]
    End,
    /// Keep the cluster until the user continues the run, then end.
    Pause,
}

/// A failure at which a run has paused, and how to access its cluster. Displays as text for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    run: String,
    at: String,
    cause: String,
    node: NodeName,
    kubeconfig: Option<PathBuf>,
    talosconfig: PathBuf,
}

/// The pause state of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Pause {
    /// The run has not paused yet.
    #[default]
    Never,
    /// The run is paused.
    Now(Paused),
    /// The run was paused, and the user has continued it.
    Over,
}

impl Session {
    /// Pauses here until [`Session::go_on`], if the run pauses at failures. `at` names the step or check for
    /// the user.
    ///
    /// # Errors
    /// When the kubeconfig or the access instructions cannot be written.
    pub async fn pause_at(&self, cluster: &Cluster, at: &str, cause: &str) -> Result<(), SessionError> {
        if self.options.on_failure == OnFailure::End || self.has_paused() {
            return Ok(());
        }
        let kubeconfig = self.publish(cluster, &format!("paused at {at}"))?;
        let text = format!("paused at {at}; the cluster is kept");
        self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        let plan = cluster.plan();
        let node = plan.nodes.first().unwrap_or(plan.control_plane()).spec.name.clone();
        self.pause.send_replace(Pause::Now(Paused {
            run: self.name().to_owned(),
            at: at.to_owned(),
            cause: cause.to_owned(),
            node,
            kubeconfig,
            talosconfig: cluster.directory().join("talosconfig"),
        }));
        // Cannot fail: this session holds a sender.
        let _ = self.pause.subscribe().wait_for(|pause| *pause == Pause::Over).await;
        Ok(())
    }

    /// Waits until the run has paused at a failure.
    pub async fn paused(&self) -> Paused {
        let mut pause: watch::Receiver<Pause> = self.pause.subscribe();
        match pause.wait_for(|pause| matches!(pause, Pause::Now(_))).await.map(|pause| pause.clone()) {
            Ok(Pause::Now(paused)) => paused,
            // This session holds a sender, and the wait condition allows no other state.
            _ => std::future::pending().await,
        }
    }

    /// Ends the pause. The run skips its remaining steps.
    pub fn go_on(&self) {
        self.pause.send_replace(Pause::Over);
    }

    /// Whether the run is paused or has paused before.
    pub fn has_paused(&self) -> bool {
        *self.pause.borrow() != Pause::Never
    }
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, at, cause, node, kubeconfig, talosconfig } = self;
        writeln!(f, "\nPaused at {at}: {cause}\n\nThe cluster keeps running:\n")?;
        if let Some(kubeconfig) = kubeconfig {
            writeln!(f, "  export KUBECONFIG={}", kubeconfig.display())?;
            writeln!(f, "  lab cluster kubectl get pods -A -o wide")?;
            writeln!(f, "  lab cluster exec NAMESPACE/POD -- COMMAND")?;
        }
        writeln!(f, "  export TALOSCONFIG={}", talosconfig.display())?;
        writeln!(f, "  lab node console {node}")?;
        writeln!(f, "  lab net status")?;
        write!(f, "\nCtrl-C here, or lab down {run}, ends it; the verdict stays that of the failure.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_meets_a_pause_is_told_how_to_enter_and_how_to_end() {
        let paused = Paused {
            run: "pods-1".into(),
            at: "check pod-network".into(),
            cause: "worker-1 -> service 10.96.0.9: refused".into(),
            node: "cp-1".parse().unwrap(),
            kubeconfig: Some("/run/kubeconfig".into()),
            talosconfig: "/run/talosconfig".into(),
        };
        insta::assert_snapshot!(paused, @r"

        Paused at check pod-network: worker-1 -> service 10.96.0.9: refused

        The cluster keeps running:

          export KUBECONFIG=/run/kubeconfig
          lab cluster kubectl get pods -A -o wide
          lab cluster exec NAMESPACE/POD -- COMMAND
          export TALOSCONFIG=/run/talosconfig
          lab node console cp-1
          lab net status

        Ctrl-C here, or lab down pods-1, ends it; the verdict stays that of the failure.
        ");
        let early = Paused { kubeconfig: None, ..paused };
        assert!(!early.to_string().contains("kubectl"));
    }
}
