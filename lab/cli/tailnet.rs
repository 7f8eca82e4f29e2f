//! The options that select the tailnet of a cluster.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use lab_cluster::formation::RealTailnet;
use lab_model::ExitCode;
use lab_plan::tailnet::AuthKey;

use super::Failed;

/// The environment variable with the auth key; Tailscale's own programs use the same name.
const KEY: &str = "TS_AUTHKEY";

/// The options that select the tailnet.
#[derive(Args)]
pub(super) struct TailnetOptions {
    /// Tailnet of the cluster: `local` is headscale on this host, `real` is your own tailnet
    #[arg(long, value_name = "WHICH")]
    pub(super) tailnet: Option<Which>,
    /// Control server of the real tailnet [default: Tailscale's]
    #[arg(long, value_name = "URL", requires = "tailnet")]
    tailnet_login_server: Option<String>,
    /// PEM file of the certificate authority (CA) to trust for that server [default: the CAs of host and nodes]
    #[arg(long, value_name = "FILE", requires = "tailnet_login_server")]
    tailnet_authority: Option<PathBuf>,
    /// File (mode 0600) with a reusable auth key of the real tailnet [default: the environment variable TS_AUTHKEY]
    #[arg(long, value_name = "FILE", requires = "tailnet")]
    tailnet_key_file: Option<PathBuf>,
}

/// A tailnet.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Which {
    /// headscale on this host, for this run
    Local,
    /// Your own tailnet
    Real,
}

impl TailnetOptions {
    /// The real tailnet, if the options select it.
    pub(super) fn real(&self) -> Result<Option<RealTailnet>, Failed> {
        if self.tailnet != Some(Which::Real) {
            return Ok(None);
        }
        let bad = |error: &dyn std::fmt::Display| Failed::new(ExitCode::BadInput, error);
        let key = match &self.tailnet_key_file {
            Some(file) => AuthKey::from_file(file),
            None => AuthKey::from_environment(KEY),
        };
        let authority = match &self.tailnet_authority {
            Some(file) => Some(
                fs::read_to_string(file)
                    .map_err(|error| bad(&format!("read {}: {error}", file.display())))?,
            ),
            None => None,
        };
        Ok(Some(RealTailnet {
            login_server: self.tailnet_login_server.clone(),
            authority,
            key: key.map_err(|error| bad(&error))?,
        }))
    }
}
