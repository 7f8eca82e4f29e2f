//! `lab snapshot` and `lab cache`: saved clusters, and other data kept between runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use lab::session::ClusterRequest;
use lab_cluster::{
    control::Request,
    formation::{SavedStage, WarmEntry, WarmError, WarmStore},
};
use lab_model::{ExitCode, Size, node::NodeName};
use serde_json::json;
use walkdir::WalkDir;

use super::{Failed, net::How, places::RunRoot, print_json, print_line, up::LivingOptions};

/// Saved clusters.
#[derive(Subcommand)]
pub enum Snapshot {
    /// Save the current state of a running cluster under a name; the cluster continues to run
    Save {
        /// Name for the saved cluster
        name: NodeName,
        #[command(flatten)]
        how: How,
    },
    /// Restore a saved cluster and keep it running until Ctrl-C
    Restore(Box<Restore>),
    /// List saved clusters: those with a name, and those that runs saved for later runs
    Ls {
        #[command(flatten)]
        place: StorePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove saved clusters
    Rm {
        /// Names or keys from `lab snapshot ls`
        #[arg(required = true)]
        clusters: Vec<String>,
        #[command(flatten)]
        place: StorePlace,
    },
}

/// Restore a saved cluster and keep it running until Ctrl-C.
#[derive(Args)]
pub struct Restore {
    /// Name of the saved cluster
    saved: NodeName,
    #[command(flatten)]
    living: LivingOptions,
}

/// Data kept between runs.
#[derive(Subcommand)]
pub enum Cache {
    /// List the cached data and its size
    Ls {
        #[command(flatten)]
        place: StorePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove the least recently used saved clusters; clusters with a name stay
    Prune {
        /// Remove saved clusters only until the remaining ones take at most SIZE on disk, e.g. 4GiB
        #[arg(long, value_name = "SIZE", default_value = "0MiB")]
        max_size: Size,
        /// Also remove unpacked images, image disks and fetched images; the next run creates them again
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: StorePlace,
    },
}

/// The directory of the runs.
#[derive(Args)]
pub struct StorePlace {
    #[command(flatten)]
    run_root: RunRoot,
}

impl StorePlace {
    fn cache(&self) -> PathBuf {
        self.run_root.path().join("cache")
    }

    /// The directory of the runs.
    pub(super) fn of(run_root: RunRoot) -> Self {
        Self { run_root }
    }

    pub(super) fn store(&self) -> WarmStore {
        WarmStore::new(self.cache().join(WARM))
    }
}

/// The directory of saved clusters in the cache.
const WARM: &str = "warm";

pub(super) fn internal(error: WarmError) -> Failed {
    Failed::new(ExitCode::Internal, error)
}

impl Snapshot {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Save { name, how } => how.ask(&Request::Save { name, stand_still: false }),
            Self::Restore(restore) => restore.restore().await,
            Self::Ls { place, json } => {
                let entries = place.store().list().map_err(internal)?;
                if json {
                    print_json(&entries.iter().map(as_json).collect::<Vec<_>>())?;
                } else {
                    entries.iter().map(line).for_each(print_line);
                }
                Ok(ExitCode::Passed)
            }
            Self::Rm { clusters, place } => {
                let store = place.store();
                let entries = store.list().map_err(internal)?;
                for wanted in clusters {
                    let entry = entries.iter().find(|entry| called(entry) == wanted);
                    let entry = entry.ok_or_else(|| no_such(&wanted))?;
                    store.remove(&entry.directory).map_err(internal)?;
                    print_line(format_args!("removed {wanted}"));
                }
                Ok(ExitCode::Passed)
            }
        }
    }
}

impl Restore {
    /// A request to restore a cluster under this name.
    pub(super) fn of(saved: NodeName, living: LivingOptions) -> Self {
        Self { saved, living }
    }

    /// The scenario on the command line takes precedence over the saved specification.
    pub(super) async fn restore(self) -> Result<ExitCode, Failed> {
        let Self { saved, living } = self;
        let spec = match living.spec()? {
            Some(spec) => spec,
            None => {
                let place = StorePlace::of(living.run_root().clone());
                let entry = place.store().named(&saved).map_err(internal)?;
                let entry = entry.ok_or_else(|| no_such(saved.as_str()))?;
                entry.spec().ok_or_else(|| {
                    let message = format!(
                        "the specification of the saved cluster {saved} cannot be read from {}; name the scenario file \
                         of the cluster with --scenario",
                        entry.directory.display()
                    );
                    Failed::new(ExitCode::BadInput, message)
                })?
            }
        };
        let title = saved.to_string();
        let request = ClusterRequest {
            snapshot: Some(saved),
            keep: SavedStage::Configured,
            ..ClusterRequest::new(spec)
        };
        living.keep(&title, request).await
    }
}

fn no_such(cluster: &str) -> Failed {
    Failed::new(
        ExitCode::BadInput,
        format!("no saved cluster is called {cluster}; lab snapshot ls lists them"),
    )
}

/// The name of a saved cluster, or its key if it has no name.
fn called(entry: &WarmEntry) -> String {
    let key = &entry.saved.key;
    key.name.as_ref().map_or_else(|| key.short(), ToString::to_string)
}

fn line(entry: &WarmEntry) -> String {
    let nodes: Vec<_> = entry.saved.nodes.iter().map(|node| node.name.as_str()).collect();
    format!(
        "{:<18} {:<8} {:>6} MiB  saved {:.0}  {}",
        called(entry),
        entry.saved.key.cluster,
        entry.bytes >> 20,
        entry.saved.saved,
        nodes.join(" ")
    )
}

fn as_json(entry: &WarmEntry) -> serde_json::Value {
    json!({
        "name": called(entry),
        "cluster": entry.saved.key.cluster,
        "stage": entry.saved.key.stage,
        "nodes": entry.saved.nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
        "saved": entry.saved.saved,
        "bytes": entry.bytes,
        "directory": entry.directory,
    })
}

impl Cache {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Ls { place, json } => {
                let parts = parts(&place.cache())?;
                if json {
                    let value: serde_json::Map<_, _> =
                        parts.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
                    print_json(&value)?;
                } else {
                    for (name, bytes) in parts {
                        print_line(format_args!("{name:<14} {:>7} MiB", bytes >> 20));
                    }
                }
            }
            Self::Prune { max_size, all, place } => {
                for entry in place.store().prune(max_size.bytes()).map_err(internal)? {
                    print_line(format_args!("removed {} ({} MiB)", called(&entry), entry.bytes >> 20));
                }
                for (name, bytes) in parts(&place.cache())? {
                    if all && name != WARM {
                        let path = place.cache().join(&name);
                        fs::remove_dir_all(&path).map_err(|error| unusable("remove", &path, &error))?;
                        print_line(format_args!("removed {name} ({} MiB)", bytes >> 20));
                    }
                }
            }
        }
        Ok(ExitCode::Passed)
    }
}

/// The directories of the cache with the bytes that each takes on the disk.
fn parts(cache: &Path) -> Result<Vec<(String, u64)>, Failed> {
    use std::os::unix::fs::MetadataExt;
    if !cache.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(cache).map_err(|error| unusable("list", cache, &error))?;
    let mut parts: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let files = WalkDir::new(entry.path()).into_iter().flatten();
            let bytes = files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum();
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    parts.sort();
    Ok(parts)
}

fn unusable(action: &str, path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(ExitCode::Internal, format!("{action} {}: {error}", path.display()))
}
