//! `lab cluster`: access to the Kubernetes cluster of a running lab and to its pods.

use std::{
    io::{IsTerminal, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, Subcommand};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use lab_cluster::kubernetes::{KubernetesApi, KubernetesError};
use lab_model::{ExitCode, files::read_text_bounded};
use lab_plan::config::AdminKubeconfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failed, attach::RawTerminal, live::At};

/// Kubernetes cluster of a running lab.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Run the host's kubectl with the kubeconfig of a running cluster
    Kubectl(Kubectl),
    /// Run a command in a container of a running cluster
    Exec(Exec),
}

/// Run the host's kubectl with the kubeconfig of a running cluster.
#[derive(Args)]
pub struct Kubectl {
    #[command(flatten)]
    at: At,
    /// Arguments of kubectl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Kubectl {
    /// Replaces this process with kubectl; returns only if kubectl cannot be run.
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let kubeconfig = self.at.kubeconfig()?;
        let error = Command::new("kubectl").args(&self.arguments).env("KUBECONFIG", &kubeconfig).exec();
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "there is no kubectl on PATH; install it (package kubernetes-client, or kubectl), or use another client \
                 with KUBECONFIG={}",
                kubeconfig.display()
            ),
            _ => format!("run kubectl: {error}"),
        };
        Err(Failed::new(ExitCode::HostUnable, message))
    }
}

/// Run a command in a container of a running cluster.
#[derive(Args)]
pub struct Exec {
    /// Pod: NAMESPACE/POD
    #[arg(value_parser = pod)]
    pod: (String, String),
    /// Container [default: the first of the pod]
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the command
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Allocate a terminal for the command
    #[arg(short = 't', long, requires = "stdin")]
    tty: bool,
    #[command(flatten)]
    at: At,
    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn pod(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => {
            Ok((namespace.to_owned(), pod.to_owned()))
        }
        _ => Err("write NAMESPACE/POD, e.g. kube-system/coredns-1".to_owned()),
    }
}

impl Exec {
    /// Returns the exit status of the command, as a shell would.
    pub(super) async fn run(self) -> Result<u8, Failed> {
        let kubeconfig = self.at.kubeconfig()?;
        let text = std::fs::read_to_string(&kubeconfig).map_err(|error| {
            Failed::new(ExitCode::Internal, format!("read {}: {error}", kubeconfig.display()))
        })?;
        let api = KubernetesApi::new(&text).await.map_err(|error: KubernetesError| failed(&error))?;
        let (namespace, pod) = &self.pod;
        let pods: Api<Pod> = Api::namespaced(api.client(), namespace);
        let mut parameters =
            AttachParams::default().stdin(self.stdin).stdout(true).stderr(!self.tty).tty(self.tty);
        if let Some(container) = &self.container {
            parameters = parameters.container(container);
        }
        let process = pods.exec(pod, &self.command, &parameters).await;
        let process = process.map_err(|error| {
            failed(&format!("run {} in {namespace}/{pod}: {error}", self.command.join(" ")))
        })?;
        let _raw = match self.tty && std::io::stdin().is_terminal() {
            true => {
                Some(RawTerminal::enter().map_err(|error| failed(&format!("set up the terminal: {error}")))?)
            }
            false => None,
        };
        converse(process).await
    }
}

/// Copies the streams until the process has ended.
async fn converse(mut process: AttachedProcess) -> Result<u8, Failed> {
    let input = process.stdin().map(|to| tokio::spawn(type_into(to)));
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let out = async {
        match stdout {
            Some(from) => print_to(std::io::stdout(), from).await,
            None => Ok(()),
        }
    };
    let err = async {
        match stderr {
            Some(from) => print_to(std::io::stderr(), from).await,
            None => Ok(()),
        }
    };
    let status = process.take_status();
    let status = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    // A closed pipe, as after `head`, is not an error.
    let (_, _, status) = tokio::join!(out, err, status);
    if let Some(input) = input {
        input.abort();
    }
    exit_status(status.as_ref()).map_err(|message| failed(&message))
}

/// Passes standard input to the process. A detached thread reads the input, because a blocking read cannot be cancelled when
/// the process ends.
async fn type_into(mut to: impl AsyncWrite + Unpin) {
    let (typed, mut inbox) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if typed.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    while let Some(bytes) = inbox.recv().await {
        // The process may have closed its input.
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The end of standard input is the end of input of the process.
    let _ = to.shutdown().await;
}

async fn print_to(mut to: impl std::io::Write, mut from: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count]).and_then(|()| to.flush())?,
        }
    }
}

/// The exit status of the process out of what the API server says of its end (Kubernetes, `remotecommand` protocol:
/// a Status with reason `NonZeroExitCode` and a cause `ExitCode`).
fn exit_status(status: Option<&Status>) -> Result<u8, String> {
    let Some(status) = status else {
        return Err("the connection to the pod ended before the command did".to_owned());
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().filter_map(|details| details.causes.as_ref()).flatten();
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_ref()?.parse::<i32>().ok());
    match code {
        // As a shell reports it.
        Some(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
        None => Err(status.message.clone().unwrap_or_else(|| "the command failed without a word".to_owned())),
    }
}

/// Refuses a file with anything else than an administrator's inline certificates and key: a kubeconfig can name
/// programs, which kubectl starts.
fn refuse_foreign(path: &Path) -> Result<(), Failed> {
    let refused = |why: &dyn std::fmt::Display| {
        Failed::new(ExitCode::BadInput, format!("the kubeconfig {} is not used: {why}", path.display()))
    };
    let text = read_text_bounded(path, 1 << 20).map_err(|error| refused(&error))?;
    AdminKubeconfig::of_foreign(&text).map(drop).map_err(|error| refused(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Failed {
    Failed::new(ExitCode::VerdictFailed, error)
}

impl At {
    /// The kubeconfig of the lab.
    fn kubeconfig(&self) -> Result<PathBuf, Failed> {
        let state = self.lab()?;
        let path = state.kubeconfig.ok_or_else(|| {
            let message = format!("{} has no kubeconfig yet; its cluster is {}", state.name, state.phase);
            Failed::new(ExitCode::BadInput, message)
        })?;
        refuse_foreign(&path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> Status {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_exit_status_is_the_commands_own() {
        let success = status(serde_json::json!({ "status": "Success" }));
        assert_eq!(exit_status(Some(&success)), Ok(0));
        let seven = status(serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 7",
            "details": { "causes": [{ "reason": "ExitCode", "message": "7" }] },
        }));
        assert_eq!(exit_status(Some(&seven)), Ok(7));
        let missing = status(serde_json::json!({ "status": "Failure", "message": "no such program" }));
        assert_eq!(exit_status(Some(&missing)), Err("no such program".to_owned()));
        assert!(exit_status(None).is_err());
    }

    #[test]
    fn a_kubeconfig_that_names_a_program_is_not_used() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let text = "{clusters: [{name: a, cluster: {certificate-authority-data: QQ==}}], \
                    contexts: [{name: a, context: {cluster: a, user: a}}], \
                    users: [{name: a, user: {client-certificate-data: QQ==, client-key-data: QQ==";
        std::fs::write(file.path(), format!("{text}}}}}]}}")).expect("write");
        assert!(refuse_foreign(file.path()).is_ok());
        std::fs::write(file.path(), format!("{text}, exec: {{command: touch}}}}}}]}}")).expect("write");
        let error = refuse_foreign(file.path()).expect_err("refused").message;
        assert!(error.contains("it has the field users[0].user.exec"), "{error}");
    }

    #[test]
    fn a_pod_is_named_with_its_namespace() {
        assert_eq!(pod("kube-system/dns"), Ok(("kube-system".into(), "dns".into())));
        assert!(pod("dns").is_err() && pod("/dns").is_err());
    }
}
