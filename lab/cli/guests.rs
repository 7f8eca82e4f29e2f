//! The options that several commands have.

use std::path::PathBuf;

use clap::Args;
use lab::{
    places::Places,
    session::{OnFailure, SessionOptions},
};
use lab_model::{
    Source,
    accelerator::{Accelerator, CpuModel},
    node::Role,
};
use lab_report::Display;
use lab_vm::{network::HostPort, process::CpuShare};

use super::{
    Failed,
    places::{ImagesDirectory, RunRoot},
};

/// Options of every command that starts guests.
#[derive(Args, Clone, Debug)]
pub struct Guests {
    /// Accelerator: kvm, hvf or tcg [default: the first of these that works]
    #[arg(long)]
    pub(super) accel: Option<Accelerator>,
    /// CPU model of the guests, by its QEMU name, e.g. cortex-a72 [default: the best for the accelerator]
    #[arg(long, value_name = "MODEL")]
    pub(super) cpu: Option<String>,
    /// Run each VM only this share of the time, in percent, as on a slow host; time limits grow with it
    #[arg(long, value_name = "PERCENT", default_value_t)]
    pub(super) cpu_share: CpuShare,
    /// QEMU program [default: qemu-system-aarch64 on PATH]
    #[arg(long, value_name = "FILE")]
    pub(super) qemu: Option<PathBuf>,
    #[command(flatten)]
    pub(super) images: ImagesDirectory,
    /// Boot IMAGE on the nodes of ROLE (compute, gateway) instead of the reference node: a path or HOST/NAME:TAG; repeatable
    #[arg(long = "image", value_name = "ROLE=IMAGE", value_parser = given)]
    pub(super) given: Vec<(Role, Source)>,
    /// OCI image layout that nodes pull from, in addition to the workload images; see `lab mirror`; repeatable
    #[arg(long = "mirror", value_name = "DIR")]
    pub(super) mirrors: Vec<PathBuf>,
    /// Fetch images that nodes request and no mirror has, and store them in the first --mirror [default: that of `lab mirror`]
    #[arg(long)]
    pub(super) pull_through: bool,
    /// Use your registry credentials for images that nodes request from this registry (with --pull-through); repeatable
    #[arg(long, value_name = "HOST", requires = "pull_through")]
    pub(super) pull_through_credentials: Vec<String>,
    /// Port of this host's loopback that nodes may reach at their gateway, e.g. 8080 or 3478/udp; repeatable
    #[arg(long = "allow-host-port", value_name = "PORT")]
    pub(super) host_ports: Vec<HostPort>,
    /// File with known failures, in addition to the built-in ones and lab-signatures.yaml; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) signatures: Vec<PathBuf>,
    /// Directory from which scenario files may read patches, configs and manifests, besides their own; repeatable
    #[arg(long = "allow-path", value_name = "DIR")]
    pub(super) allowed_paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) run_root: RunRoot,
}

pub(super) fn given(text: &str) -> Result<(Role, Source), String> {
    let (role, source) = text.split_once('=').ok_or("write ROLE=IMAGE, e.g. compute=./images/compute")?;
    let role = Role::new(role).map_err(|error| error.to_string())?;
    Ok((role, Source::parse(source).map_err(|error| error.to_string())?))
}

/// Options of every command that forms a cluster: what to do at a failure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Failures {
    /// Keep the cluster running at the step or check that fails, until Ctrl-C or `lab down`
    #[arg(long)]
    pause_on_failure: bool,
}

impl From<Failures> for OnFailure {
    fn from(failures: Failures) -> Self {
        if failures.pause_on_failure { Self::Pause } else { Self::End }
    }
}

impl Guests {
    /// The options of a run.
    pub(super) fn options(&self, title: &str, display: Display) -> Result<SessionOptions, Failed> {
        Ok(SessionOptions {
            root: self.run_root.path(),
            display,
            qemu: self.qemu.clone(),
            accelerator: self.accel,
            cpu_model: self.cpu.clone().map(CpuModel::new),
            cpu_share: self.cpu_share,
            images: self.images.path()?,
            mirrors: self.mirrors.clone(),
            pull_through: self
                .pull_through
                .then(|| self.mirrors.first().cloned().unwrap_or_else(|| Places::here().mirror())),
            pull_through_credentials: self.pull_through_credentials.clone(),
            host_ports: self.host_ports.clone(),
            given: self.given.iter().cloned().collect(),
            signatures: self.signatures.clone(),
            ..SessionOptions::new(title)
        })
    }
}
