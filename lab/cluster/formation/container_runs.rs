//! The runs of the containers of the system's pods on a node, as their logs show them. They are there before the API server
//! answers.

use std::collections::BTreeMap;

use crate::machine_api::PodRun;

/// The type of the resources of static pods, which kubelet reports.
pub(super) const STATIC_PODS: &str = "StaticPodStatuses.kubernetes.talos.dev";

/// A container with its last run, and the run before if it still has a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerRuns {
    last: PodRun,
    before: Option<PodRun>,
}

/// Returns each container once.
pub(super) fn containers(runs: Vec<PodRun>) -> Vec<ContainerRuns> {
    let mut containers: BTreeMap<(String, String), Vec<PodRun>> = BTreeMap::new();
    for run in runs {
        containers.entry((run.pod.clone(), run.container.clone())).or_default().push(run);
    }
    let of = |mut runs: Vec<PodRun>| {
        runs.sort_by_key(|run| run.run);
        Some(ContainerRuns { last: runs.pop()?, before: runs.pop() })
    };
    containers.into_values().filter_map(of).collect()
}

impl ContainerRuns {
    /// The run that says why the container was started again, or else what it does.
    pub(super) fn telling(&self) -> &PodRun {
        self.before.as_ref().unwrap_or(&self.last)
    }

    /// Whether the container runs for the first time.
    pub(super) fn is_first(&self) -> bool {
        self.last.run == 0
    }

    /// The name of the container, for a table of what was told.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.last.pod, self.last.container)
    }

    /// A sentence about the runs, with the last line of [`Self::telling`].
    pub(super) fn line(&self, last: Option<&str>) -> String {
        let PodRun { pod, container, run: again, .. } = &self.last;
        let end = |verb: &str| last.map(|line| format!("{verb}: {line}")).unwrap_or_default();
        match again {
            0 => format!("container {container} of pod {pod} has started{}", end("; its log ends with")),
            1 => format!(
                "container {container} of pod {pod} was started again{}",
                end("; before, it ended with")
            ),
            _ => format!(
                "container {container} of pod {pod} was started again {again} times{}",
                end("; before, it ended with")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(container: &str, run: u32) -> PodRun {
        PodRun::of(&format!("kube-system_{container}-cp-1_0f2c/{container}/{run}.log"), 10).expect("a log")
    }

    #[test]
    fn a_container_that_was_started_again_is_told_with_the_end_of_the_run_before() {
        let seen =
            containers(vec![run("kube-scheduler", 5), run("kube-apiserver", 0), run("kube-scheduler", 4)]);
        let [api_server, scheduler] = &seen[..] else { panic!("{seen:?}") };
        assert!(api_server.is_first() && !scheduler.is_first());
        assert_eq!((api_server.telling().run, scheduler.telling().run), (0, 4));
        assert_eq!(api_server.line(None), "container kube-apiserver of pod kube-apiserver-cp-1 has started");
        assert_eq!(
            scheduler.line(Some("\"command failed\" err=EOF")),
            "container kube-scheduler of pod kube-scheduler-cp-1 was started again 5 times; before, it ended with: \
             \"command failed\" err=EOF"
        );
        assert_eq!(scheduler.name(), "kube-scheduler-cp-1/kube-scheduler");
    }

    #[test]
    fn the_recorded_containers_are_each_told_once() {
        let paths = include_str!("../../../tests/recorded/talos-v1.13.9/pod-logs.txt");
        let runs = paths.lines().map(|path| PodRun::of(path, 10).expect(path)).collect();
        let lines: Vec<_> = containers(runs).iter().map(|container| container.line(None)).collect();
        let line = |container: &str, times: &str| {
            format!("container {container} of pod {container}-cp-1 was started again{times}")
        };
        assert_eq!(
            lines,
            [
                line("kube-apiserver", ""),
                line("kube-controller-manager", " 3 times"),
                line("kube-scheduler", " 5 times")
            ]
        );
    }
}
