//! `lab image preflight` and `lab image pin`: checks of images, and their digests, before a boot.

use std::path::PathBuf;

use clap::Args;
use lab::places::Places;
use lab_model::files::comes_from_exhaustion;
use lab_model::{ExitCode, Source, SourceError, node::Role};
use lab_oci::{
    images::{ImageStore, LOCK_FILE, Lock, OciError},
    preflight::{Candidate, Limits, Preflight as Checked, PreflightError, PreflightImage},
};

use super::{Failed, add_to_step_summary, given, print_json, print_line, reference};

/// The cache of fetched images, and the lock file with their digests.
#[derive(Args, Clone, Debug)]
pub struct Images {
    /// Directory of fetched images [default: cache in the default directory of the runs]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Lock file that `lab image pin` writes
    #[arg(long, value_name = "FILE", default_value = LOCK_FILE)]
    lock: PathBuf,
}

impl Images {
    pub(super) fn store(&self) -> Result<ImageStore, OciError> {
        Ok(ImageStore::new(self.cache(), Lock::read(&self.lock)?))
    }

    /// The directory of fetched images.
    pub(super) fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| Places::here().runs().join("cache"))
    }
}

/// Check images without a boot: contents, checksums, architecture, age, differences.
#[derive(Args)]
pub struct Preflight {
    /// Images: directories, files, archives or HOST/NAME:TAG; optionally with their role: compute=IMAGE, gateway=IMAGE
    #[arg(required = true, value_name = "[ROLE=]IMAGE", value_parser = candidate)]
    images: Vec<Candidate>,
    /// Warn about a tag whose image was built more than DAYS days ago
    #[arg(long, value_name = "DAYS", default_value_t = Limits::OLD_DAYS)]
    old: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: Images,
}

fn candidate(text: &str) -> Result<Candidate, String> {
    // A reference may hold an equals sign nowhere, and a path hardly does.
    if let Some((name, _)) = text.split_once('=')
        && Role::new(name).is_ok()
    {
        let (role, source) = given(text)?;
        return Ok(Candidate { role: Some(role), source });
    }
    let source = Source::parse(text).map_err(|error| error.to_string())?;
    Ok(Candidate { role: None, source })
}

impl Preflight {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let store = self.from.store()?;
        let images = PreflightImage::all(self.images, &store).await?;
        let checked = Checked::of(images, Limits::of_days(self.old));
        if self.json {
            print_json(&checked)?;
        } else {
            print_line(&checked);
        }
        add_to_step_summary(&checked.markdown())?;
        Ok(if checked.passed() { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}

/// Fetch images and write the digests of their tags to the lock file.
#[derive(Args)]
pub struct Pin {
    /// References: HOST/NAME:TAG
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,
    #[command(flatten)]
    from: Images,
}

impl Pin {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        // Without the lock file: the registry determines the current digest.
        let store = ImageStore::new(self.from.cache(), Lock::default());
        let mut lock = Lock::read(&self.from.lock)?;
        for text in &self.references {
            let reference = reference(text, "only what a registry has can change under its name")?;
            let origin = store.resolve(&Source::Registry(reference.clone())).await?.origin;
            let digest = origin.digest.as_ref().map(ToString::to_string).unwrap_or_default();
            let built = origin.created.as_deref().unwrap_or("unknown");
            let before = lock.pin(&reference, &origin).filter(|before| before.digest != digest);
            let change = before.map_or_else(String::new, |before| format!(" (was {})", before.digest));
            print_line(format_args!("{text} {digest}{change}, built {built}"));
        }
        lock.write()?;
        Ok(ExitCode::Passed)
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        OciError::from(error).into()
    }
}

impl From<OciError> for Failed {
    fn from(error: OciError) -> Self {
        let code = match error {
            _ if comes_from_exhaustion(&error) => ExitCode::HostUnable,
            OciError::File { .. } => ExitCode::Internal,
            _ => ExitCode::BadInput,
        };
        Self::new(code, error)
    }
}

impl From<PreflightError> for Failed {
    fn from(error: PreflightError) -> Self {
        match error {
            PreflightError::Source(error) => error.into(),
            PreflightError::Image { .. } => Self::new(ExitCode::BadInput, error),
        }
    }
}
