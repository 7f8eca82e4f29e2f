//! Clusters that are broken on purpose.

use std::{
    env, fmt, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use lab_cluster::kubernetes::{KubernetesApi, KubernetesError};
use lab_model::{
    files::{create_private, create_private_directory},
    node::{Kind, NodeName, Role},
};
use lab_plan::cluster::Budgets;
use lab_vm::process::Processes;
use serde::Serialize;

use super::api::ApiServer;
use crate::scenario::checks::{Environment, HostView, NodeAccess};

/// How a cluster is broken. The order is that of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// Nothing listens at its addresses.
    NoApi,
    /// The API server answers, no node is Ready, and no pod ever runs.
    NoNodeReady,
    /// All nodes are Ready, and nothing of an extension runs: no runtime class, no pod, no machine API.
    NoExtension,
    /// Nothing listens, and PATH has the usual small tools only: no kubectl, talosctl, curl, jq.
    NoTools,
}

impl Broken {
    pub const ALL: [Self; 4] = [Self::NoApi, Self::NoNodeReady, Self::NoExtension, Self::NoTools];

    /// Whether a check of anything in a cluster must fail. A check of nodes can pass without an extension.
    pub fn must_fail(self) -> bool {
        self != Self::NoExtension
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoApi => "without an API server",
            Self::NoNodeReady => "without a Ready node",
            Self::NoExtension => "without extensions",
            Self::NoTools => "without tools on PATH",
        })
    }
}

/// Why a broken cluster cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BrokenError {
    #[error("make a broken cluster: {0}")]
    Host(#[from] io::Error),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

/// A broken cluster. Drop ends it.
pub(super) struct BrokenCluster {
    pub(super) view: HostView,
    _api: Option<ApiServer>,
    _files: tempfile::TempDir,
}

const NODES: [(&str, Kind, &str); 3] = [
    ("cp-1", Kind::ControlPlane, "compute"),
    ("worker-1", Kind::Worker, "compute"),
    ("gateway-1", Kind::Worker, "gateway"),
];

/// The programs of a PATH without tools of clusters: POSIX utilities, and the shells.
const SMALL: [&str; 45] = [
    "[", "awk", "basename", "bash", "cat", "chmod", "cmp", "cp", "cut", "date", "diff", "dirname", "echo",
    "env", "expr", "false", "find", "grep", "head", "id", "ln", "ls", "mkdir", "mktemp", "mv", "printf",
    "pwd", "readlink", "realpath", "rm", "sed", "seq", "sh", "sleep", "sort", "tail", "tee", "test", "touch",
    "tr", "true", "uname", "uniq", "wc", "xargs",
];

impl BrokenCluster {
    pub(super) async fn make(broken: Broken) -> Result<Self, BrokenError> {
        // The client needs a provider even for plain HTTP. An existing provider stays installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let files = tempfile::Builder::new().prefix("lab-vet-").tempdir()?;
        let names = NODES.map(|(name, _, _)| name);
        let api = match broken {
            Broken::NoApi | Broken::NoTools => None,
            Broken::NoNodeReady => Some(ApiServer::start(&names, false).await?),
            Broken::NoExtension => Some(ApiServer::start(&names, true).await?),
        };
        let address = match &api {
            Some(api) => api.address,
            None => closed_port()?,
        };
        let kubeconfig = kubeconfig(address);
        let (kube_file, talos_file) = (files.path().join("kubeconfig"), files.path().join("talosconfig"));
        write(&kube_file, &kubeconfig)?;
        write(&talos_file, &talosconfig(closed_port()?))?;
        let nodes = NODES.map(|(name, kind, role)| node(name, kind, role));
        let nodes: Vec<_> = nodes.into_iter().collect::<Option<_>>().unwrap_or_default();
        let mut environment = Environment::of(&kube_file, &talos_file, &nodes, Some(address));
        if broken == Broken::NoTools {
            let programs = files.path().join("bin");
            small_programs(&programs)?;
            environment = environment.with("PATH", programs.display().to_string());
        }
        let view = HostView {
            api: KubernetesApi::new(&kubeconfig).await?,
            processes: Processes::new(files.path().join("processes"))?,
            budgets: Budgets::default(),
            environment,
        };
        Ok(Self { view, _api: api, _files: files })
    }
}

fn node(name: &str, kind: Kind, role: &str) -> Option<NodeAccess> {
    Some(NodeAccess {
        name: NodeName::new(name).ok()?,
        kind,
        role: Role::new(role).ok()?,
        address: "10.5.0.10".to_owned(),
        machine_api: closed_port().ok(),
    })
}

/// An address at which nothing listens: a port that was free a moment ago.
fn closed_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n  - name: lab\n    cluster: {{ server: \
         'http://{address}' }}\nusers:\n  - name: lab\n    user: {{}}\ncontexts:\n  - name: lab\n    context: {{ \
         cluster: lab, user: lab, namespace: default }}\n"
    )
}

fn talosconfig(address: SocketAddr) -> String {
    format!("context: lab\ncontexts:\n  lab:\n    endpoints: ['{address}']\n    nodes: [10.5.0.10]\n")
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut create_private(path)?, text.as_bytes())
}

/// Fills a directory with links to the small programs of this host.
fn small_programs(directory: &Path) -> io::Result<()> {
    create_private_directory(directory)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path).collect();
    for name in SMALL {
        let found = places.iter().map(|place| place.join(name)).find(|file| file.is_file());
        if let Some(file) = found {
            symlink(fs::canonicalize(&file).unwrap_or(file), directory.join(name))?;
        }
    }
    Ok(())
}
