//! Which tailnet clusters join that have one.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use lab_cluster::formation::RealTailnet;
use lab_model::ExitCode;
use lab_plan::tailnet::AuthKey;

use super::Failed;

/// The environment variable of the auth key, as everywhere in Tailscale.
const KEY: &str = "TS_AUTHKEY";

/// Which tailnet.
#[derive(Args)]
pub(super) struct TailnetOptions {
    /// The tailnet of clusters that have one: `local` is the run's own on loopback, `real` is yours
    #[arg(long, value_name = "WHICH")]
    pub(super) tailnet: Option<Which>,
    /// Control server of the real tailnet [default: Tailscale's own]
    #[arg(long, value_name = "URL", requires = "tailnet")]
    tailnet_login_server: Option<String>,
    /// PEM certificate to trust for that server, in place of the system's
    #[arg(long, value_name = "FILE", requires = "tailnet_login_server")]
    tailnet_authority: Option<PathBuf>,
    /// File of mode 0600 with the real tailnet's auth key, a reusable one [default: the environment's TS_AUTHKEY]
    #[arg(long, value_name = "FILE", requires = "tailnet")]
    tailnet_key_file: Option<PathBuf>,
}

/// Which tailnet.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Which {
    /// The run's own: headscale on loopback
    Local,
    /// The user's own
    Real,
}

impl TailnetOptions {
    /// The user's own tailnet, if it is asked for.
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
