//! Restores a saved cluster and verifies that it works.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use lab_model::events::{EventKind, Step, Subject};
use lab_plan::cluster::NodePlan;
use lab_vm::machine::{Machine, SavedMemory};

use super::{
    saved::SavedNode,
    store::{Snapshot, WarmError},
};
use crate::{
    formation::{
        Cause, Cluster, Failure, FormationState, KubernetesAccess,
        disk_files::{copy, sum_of},
        steps::{LastSeen, RETRY, until},
    },
    kubernetes::{KubernetesApi, KubernetesError, Renewals, not_renewed},
    machine_api::{ApiError, NodeClient},
    wait::{PollError, Wait},
};

/// The controllers must work for this time.
const STABLE: Duration = Duration::from_secs(5);
/// Interval between two looks at the controllers.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time limit of a request about them.
const REQUEST: Duration = Duration::from_secs(5);
/// Maximum clock offset of a node after its clock was corrected.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);
/// Time limit for a reference node to synchronize its clock, on the reference host. A Talos node queries the time every
/// 32 s at most, and nothing makes it ask earlier, so the lab looks once and reports its offset.
const CLOCK_PATIENCE: Duration = Duration::from_secs(8);

impl Cluster {
    /// Restores the cluster and returns after these checks: its API server and its etcd respond, each kubelet
    /// responds through them, all layers are green, and the clocks are correct.
    pub(crate) async fn restored(&self, snapshot: &Snapshot) -> Result<Arc<KubernetesAccess>, Failure> {
        let began = Instant::now();
        let nodes = self.plan().nodes.iter().map(|node| self.loaded(node, snapshot));
        let machines = try_join_all(nodes).await?;
        let loaded = began.elapsed();
        self.step(&Subject::Cluster, Step::Restore, |_| async {
            let running = join_all(machines.iter().map(|machine| machine.resume())).await;
            running.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(())
        })
        .await?;
        // These checks are independent, and each response of an emulated node takes time.
        let access = Arc::new(self.access_with(&snapshot.access.kubeconfig).await?);
        let nodes = self.plan().nodes.iter().map(|node| self.lives(node, &access));
        futures::try_join!(self.kubernetes_works(&access.api), try_join_all(nodes))?;
        self.formation.send_replace(FormationState::ApiServer(Arc::clone(&access)));
        let text = format!(
            "restored warm in {:.1} s ({:.1} s until its CPUs ran), saved at {:.0}; formed cold it took {:.0} s",
            began.elapsed().as_secs_f64(),
            loaded.as_secs_f64(),
            snapshot.saved.saved,
            snapshot.saved.formed_in
        );
        self.recorder().record(EventKind::Note { subject: Subject::Cluster, text });
        Ok(access)
    }

    /// Restores a node's disk, and its memory into a machine with stopped CPUs. Verifies the checksums
    /// during the copy.
    async fn loaded(&self, node: &NodePlan, snapshot: &Snapshot) -> Result<Arc<Machine>, Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        self.step(&subject, Step::Restore, |_| async {
            let saved = snapshot.saved.nodes.iter().find(|saved| saved.name == node.spec.name);
            let saved =
                saved.ok_or_else(|| damaged(snapshot, format!("it has no node {}", node.spec.name)))?;
            let intact = self.memory_is_intact(saved, snapshot);
            let load = async {
                self.copy_disk(node, saved, snapshot).await?;
                let machine = self.boot_with(node, true).await?;
                let memory =
                    SavedMemory { file: snapshot.file(&saved.memory.file), format: snapshot.saved.memory };
                machine.load(&memory).await?;
                Ok(machine)
            };
            futures::future::try_join(intact, load).await.map(|((), machine)| machine)
        })
        .await
    }

    async fn copy_disk(&self, node: &NodePlan, saved: &SavedNode, snapshot: &Snapshot) -> Result<(), Cause> {
        let (from, to) = (snapshot.file(&saved.disk.file), self.disk_of(node));
        if let Some(directory) = to.parent() {
            lab_model::files::create_private_directory(directory).map_err(|source| Cause::File {
                action: format!("create {}", directory.display()),
                source,
            })?;
        }
        let shown = format!("copy {} to {}", from.display(), to.display());
        let sum = blocking(shown, move || copy(&from, &to)).await?;
        if sum == saved.disk.sum { Ok(()) } else { Err(altered(snapshot, &saved.disk.file)) }
    }

    async fn memory_is_intact(&self, saved: &SavedNode, snapshot: &Snapshot) -> Result<(), Cause> {
        let path = snapshot.file(&saved.memory.file);
        let sum = blocking(format!("read {}", path.display()), move || sum_of(&path)).await?;
        if sum == saved.memory.sum { Ok(()) } else { Err(altered(snapshot, &saved.memory.file)) }
    }

    /// Access to the API server of the restored control plane, with the saved kubeconfig.
    async fn access_with(&self, kubeconfig: &str) -> Result<KubernetesAccess, Failure> {
        let access = self.step(&Subject::Cluster, Step::Kubeconfig, |_| async {
            let kubeconfig = self.admin_kubeconfig(async { Ok(kubeconfig.to_owned()) }).await?;
            let api = KubernetesApi::new(&kubeconfig).await?;
            Ok(KubernetesAccess::new(kubeconfig, api, self.recorder()))
        });
        let access = access.await?;
        self.formation.send_replace(FormationState::Kubeconfig(Arc::clone(&access.kubeconfig)));
        Ok(access)
    }

    /// Waits for the API server, which also reports whether its etcd is healthy, and then for the controllers.
    async fn kubernetes_works(&self, api: &KubernetesApi) -> Result<(), Failure> {
        self.step(&Subject::Cluster, Step::KubernetesApi, |seen| async move {
            until(&seen, || api.ready()).await;
            // The controllers of the reference node are services, and elect no leader.
            if self.plan().control_plane().release.is_some() {
                controllers_work(api, &seen).await;
            }
            Ok(())
        })
        .await
    }

    /// Waits until a restored node is green, its kubelet responds and its clock is correct.
    async fn lives(&self, node: &NodePlan, access: &KubernetesAccess) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        let green = async {
            let client = self.secure_api(node, &subject).await?;
            let clock = client.clone();
            self.ready(node, &subject, client, access.nodes.clone()).await?;
            if let Some(text) = self.lag(node, &clock).await {
                self.note(node, text);
            }
            Ok(())
        };
        // The stored Node object says Ready; only the kubelet shows the current state.
        let answers = self.step(&subject, Step::Restore, |seen| async move {
            until(&seen, || access.api.kubelet_answers(node.spec.name.as_str())).await;
            Ok(())
        });
        futures::try_join!(green, answers).map(drop)
    }

    /// Waits until the node's time service has corrected its clock; returns a message if it has not.
    async fn lag(&self, node: &NodePlan, client: &NodeClient) -> Option<String> {
        let behind = async || {
            let time = client.time(self.plan().budgets.call).await?;
            Ok::<_, ApiError>(jiff::Timestamp::now().duration_since(time).unsigned_abs())
        };
        let wait = match node.release {
            Some(_) => Wait::once(),
            None => Wait::up_to(self.plan().budgets.on_this_host(CLOCK_PATIENCE)),
        };
        match wait.every(RETRY).poll(behind, is_right).await {
            Ok(_) => None,
            Err(PollError::Probe(error)) => {
                Some(format!("its clock is not known after the restore: {error}"))
            }
            Err(PollError::Expired(expired)) => Some(expired.last),
        }
    }
}

/// Waits until the scheduler and the controller manager of a Talos control plane work again: both have renewed their
/// leases since the restore, and both pods are ready for some time. The clock jumps at a restore, which ends their
/// leases, and they then restart. The enclosing step limits the time.
async fn controllers_work(api: &KubernetesApi, seen: &LastSeen) {
    let (mut first, mut since) = (None, None);
    loop {
        let problem = controllers_problem(api, &mut first).await;
        match problem.unwrap_or_else(|error| Some(error.to_string())) {
            Some(problem) => {
                seen.set(problem);
                since = None;
            }
            None if since.get_or_insert_with(Instant::now).elapsed() >= STABLE => return,
            None => seen.set("the controllers work, for less than 5 s so far"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What keeps the controllers from working. `first` holds the renewals of the first look.
async fn controllers_problem(
    api: &KubernetesApi,
    first: &mut Option<Renewals>,
) -> Result<Option<String>, KubernetesError> {
    let now = api.renewals(REQUEST).await?;
    let waiting = not_renewed(first.get_or_insert_with(|| now.clone()), &now);
    if !waiting.is_empty() {
        return Ok(Some(format!("no renewed lease of {} since the restore", waiting.join(" and "))));
    }
    let down = api.system_pods(REQUEST).await?.controllers_down();
    Ok((!down.is_empty()).then(|| down.join("; ")))
}

/// Whether a clock with this offset is correct.
fn is_right(off: &Duration) -> Result<(), String> {
    if *off < CLOCK_TOLERANCE {
        return Ok(());
    }
    Err(format!("its clock is still {:.0} s behind; its time service will correct it", off.as_secs_f64()))
}

fn altered(snapshot: &Snapshot, file: &str) -> Cause {
    damaged(snapshot, format!("{file} differs from the saved file"))
}

fn damaged(snapshot: &Snapshot, problem: String) -> Cause {
    Cause::Warm(WarmError::Damaged { path: snapshot.directory.clone(), problem })
}

async fn blocking<T: Send + 'static>(
    action: String,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    done.and_then(|done| done).map_err(|source| Cause::File { action, source })
}
