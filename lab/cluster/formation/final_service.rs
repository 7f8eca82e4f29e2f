//! Services of a node that do not recover by themselves.

use std::{
    fmt,
    time::{Duration, Instant},
};

use lab_model::{redact, visible};

use crate::machine_api::{NodeClient, ServiceState};

/// The state of a service that Talos does not start again by itself.
const FAILED: &str = "Failed";
/// The state of a service whose conditions are not met.
const WAITING: &str = "Waiting";
/// A service can be in this state for a moment while its controller replaces it.
const LASTS: Duration = Duration::from_secs(5);
/// How long a service waits for a file while everything else on its node is up, on the reference host.
pub(super) const FILE_PATIENCE: Duration = Duration::from_secs(30);
/// Number of restarts after which a service that ends again and again counts as failed.
const RESTARTS: usize = 10;
/// Number of lines from the end of the service's log.
const LINES: usize = 6;
/// Maximum length of a line.
const LINE: usize = 300;
/// Time limit for the log.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service in its final state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalService {
    /// Service ID, e.g. `kubelet` or `ext-tailscale`.
    pub service: String,
    /// What the node says about its end.
    pub end: String,
    /// The last lines of its log, which are empty if the node has none. `None` if the service has not started.
    pub log: Option<Vec<String>>,
}

/// Finds a service in its final state, over several looks at the same node.
#[derive(Debug, Default)]
pub(super) struct FinalServices {
    /// The failed service that was seen first, its message, and when.
    failed: Option<(String, String, Instant)>,
    /// The wait of the services that only wait for files, and when it was seen first.
    waits: Option<(String, Instant)>,
}

impl FinalServices {
    /// Returns a service that does not recover.
    pub(super) fn look(&mut self, services: &[ServiceState], now: Instant) -> Option<FinalService> {
        let of = |service: &ServiceState, end: String| FinalService {
            service: service.id.clone(),
            end,
            log: None,
        };
        if let Some(service) =
            services.iter().find(|service| service.keeps_restarting && service.restarts >= RESTARTS)
        {
            let end = format!("ended and was restarted {} times; {}", service.restarts, service.last_end);
            return Some(of(service, end));
        }
        let Some(service) = services.iter().find(|service| service.state == FAILED) else {
            self.failed = None;
            return None;
        };
        match &self.failed {
            Some((id, message, since)) if *id == service.id && *message == service.message => {
                (now.duration_since(*since) >= LASTS)
                    .then(|| of(service, format!("has failed: {}", service.message)))
            }
            _ => {
                self.failed = Some((service.id.clone(), service.message.clone(), now));
                None
            }
        }
    }

    /// Returns a service that waits for a file, if all services that are not up only wait for files, and do so for
    /// `patience`. Nothing that is still to come makes the file.
    pub(super) fn look_for_file(
        &mut self,
        services: &[ServiceState],
        patience: Duration,
        now: Instant,
    ) -> Option<FinalService> {
        let mut waits =
            services.iter().filter(|service| !service.is_up()).map(|service| (service, files(service)));
        let Some((service, Some(files))) = waits.next().filter(|_| waits.all(|(_, files)| files.is_some()))
        else {
            self.waits = None;
            return None;
        };
        let wait = format!("{} {}", service.id, service.message);
        let since = match &self.waits {
            Some((known, since)) if *known == wait => *since,
            _ => {
                self.waits = Some((wait, now));
                now
            }
        };
        (now.duration_since(since) >= patience).then(|| FinalService {
            service: service.id.clone(),
            end: end_of_wait(&files),
            log: None,
        })
    }
}

/// The files that a service waits for, if it waits for nothing else. Talos lists the unmet conditions of a service in
/// its message (`conditions/files.go` and `conditions/all.go` of v1.13.9).
fn files(service: &ServiceState) -> Option<Vec<&str>> {
    let conditions = service.message.strip_prefix("Waiting for ").filter(|_| service.state == WAITING)?;
    conditions.split(", ").map(file).collect()
}

/// The file of a condition that waits for one.
fn file(condition: &str) -> Option<&str> {
    condition.strip_prefix("file \"")?.strip_suffix("\" to exist")
}

fn end_of_wait(files: &[&str]) -> String {
    let mut end = format!("waits for {}, and everything else on the node is up", files.join(", "));
    for module in
        files.iter().filter_map(|file| file.strip_prefix("/dev/")).filter(|name| !name.contains('/'))
    {
        end.push_str(&format!(
            "; if a kernel module makes the device, name it in the machine config: machine.kernel.modules: [{{name: {module}}}]"
        ));
    }
    end
}

impl FinalService {
    /// Adds the end of the service's log.
    pub(super) async fn with_log(mut self, client: &NodeClient) -> Self {
        let lines = i32::try_from(LINES * 4).unwrap_or(i32::MAX);
        let log = client.logs(&self.service, lines, PATIENCE).await.unwrap_or_default();
        self.log = Some(last_lines(&log));
        self
    }
}

/// The last lines of a log that are not empty, without keys and control characters.
fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let clean = |line: &&str| {
        let short: String = redact(line).chars().take(LINE).collect();
        visible(&short, usize::MAX)
    };
    last.iter().map(clean).collect()
}

impl fmt::Display for FinalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} {}", self.service, self.end)?;
        match &self.log {
            None => Ok(()),
            Some(log) if log.is_empty() => f.write_str("; the node has no log of this service"),
            Some(log) => write!(f, "; its log ends with: {}", log.join(" / ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_api::ServiceHealth;

    fn service(id: &str, state: &str, restarts: usize) -> ServiceState {
        ServiceState {
            id: id.into(),
            state: state.into(),
            health: ServiceHealth::Unknown,
            message: "mkdir tmpfs: read-only file system".into(),
            restarts,
            last_end: "Error running Process: exit status 1, going to restart forever".into(),
            keeps_restarting: restarts > 1,
        }
    }

    #[test]
    fn a_failed_service_is_final_when_it_stays_so() {
        let (mut looks, began) = (FinalServices::default(), Instant::now());
        let failed = [service("kubelet", "Running", 0), service("ext-tailscale", "Failed", 0)];
        assert_eq!(looks.look(&failed, began), None);
        let found = looks.look(&failed, began + LASTS).expect("final");
        assert_eq!(found.service, "ext-tailscale");
        assert!(found.to_string().contains("mkdir tmpfs: read-only file system"), "{found}");
    }

    #[test]
    fn a_service_that_recovers_is_not_final() {
        let (mut looks, began) = (FinalServices::default(), Instant::now());
        let failed = [service("ext-tailscale", "Failed", 0)];
        assert_eq!(looks.look(&failed, began), None);
        assert_eq!(looks.look(&[service("ext-tailscale", "Running", 0)], began + LASTS / 2), None);
        assert_eq!(looks.look(&failed, began + LASTS), None, "it failed again");
    }

    #[test]
    fn a_program_that_ends_again_and_again_is_final_beyond_a_bound() {
        let mut looks = FinalServices::default();
        assert_eq!(looks.look(&[service("kubelet", "Running", RESTARTS - 1)], Instant::now()), None);
        let found = looks.look(&[service("kubelet", "Running", RESTARTS)], Instant::now()).expect("final");
        assert!(found.end.starts_with("ended and was restarted 10 times"), "{found}");
        let settled = ServiceState { keeps_restarting: false, ..service("kubelet", "Running", 23) };
        assert_eq!(looks.look(&[settled], Instant::now()), None);
    }

    fn waiting(id: &str, message: &str) -> ServiceState {
        ServiceState { message: message.into(), ..service(id, "Waiting", 0) }
    }

    #[test]
    fn a_wait_for_a_file_is_final_once_nothing_else_is_missing() {
        let (mut looks, began, patience) = (FinalServices::default(), Instant::now(), FILE_PATIENCE);
        let kubelet = ServiceState { health: ServiceHealth::Healthy, ..service("kubelet", "Running", 0) };
        let zfs = waiting("ext-zfs-service", "Waiting for file \"/dev/zfs\" to exist");
        let early = [
            kubelet.clone(),
            waiting(
                "ext-zfs-service",
                "Waiting for service \"cri\" to be \"up\", file \"/dev/zfs\" to exist",
            ),
        ];
        assert_eq!(looks.look_for_file(&early, patience, began), None);
        assert_eq!(looks.look_for_file(&early, patience, began + patience), None, "cri can still come");
        let services = [kubelet, zfs.clone()];
        assert_eq!(
            looks.look_for_file(&services, patience, began + patience),
            None,
            "seen for the first time"
        );
        let found = looks.look_for_file(&services, patience, began + patience * 2).expect("final");
        insta::assert_snapshot!(found, @r#"service ext-zfs-service waits for /dev/zfs, and everything else on the node is up; if a kernel module makes the device, name it in the machine config: machine.kernel.modules: [{name: zfs}]"#);

        let other = [zfs, waiting("ext-tailscale", "Waiting for extension service config")];
        assert_eq!(looks.look_for_file(&other, patience, began), None);
        assert_eq!(
            looks.look_for_file(&other, patience, began + patience),
            None,
            "a document can make the file"
        );
        assert_eq!(looks.look_for_file(&[], patience, began + patience), None);
    }

    #[test]
    fn the_end_of_a_log_is_short_and_has_no_control_characters() {
        let log: String = (0..40).map(|n| format!("line {n} \u{1b}[31mred\n\n")).collect();
        let last = last_lines(&log);
        assert_eq!(last.len(), LINES);
        assert!(last[LINES - 1].starts_with("line 39 \\u{1b}[31m"), "{last:?}");
        let long = last_lines(&"x".repeat(10_000));
        assert_eq!(long[0].len(), LINE);
    }
}
