//! `lab inspect`: what is in an image, without booting it.

use std::path::PathBuf;

use clap::Args;
use lab::{
    assets::{InspectError, Inspection},
    host::ExitCode,
};

use super::{Failed, print_line};

/// Tell what is in images, and how they differ, without booting them.
#[derive(Args)]
pub struct Inspect {
    /// Image directories; the second and later ones are compared with the first
    #[arg(required = true, value_name = "IMAGE_DIR")]
    images: Vec<PathBuf>,
    /// The extensions that the second image must have more than the first: no fewer, no others
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    adds: Option<Vec<String>>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let images = inspected(&self.images).map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let differences: Vec<_> = match images.split_first() {
            Some((first, others)) => others.iter().map(|other| first.difference(other)).collect(),
            None => Vec::new(),
        };
        let wrong = self.wrong(&images)?;
        if self.json {
            let value = serde_json::json!({ "images": images, "differences": differences, "wrong": wrong });
            let text = serde_json::to_string_pretty(&value)
                .map_err(|error| Failed::new(ExitCode::Internal, error))?;
            print_line(text);
        } else {
            images.iter().for_each(print_line);
            for (image, difference) in images.iter().skip(1).zip(&differences) {
                let directory = image.directory.display();
                print_line(format_args!("{directory} against the first: {difference}"));
            }
            wrong.iter().for_each(|line| print_line(format_args!("❌ {line}")));
        }
        Ok(if wrong.is_empty() { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }

    /// One sentence for everything that is not as it should be.
    fn wrong(&self, images: &[Inspection]) -> Result<Vec<String>, Failed> {
        let mut wrong: Vec<_> = images
            .iter()
            .filter(|image| !image.is_intact())
            .map(|image| {
                format!("{}: its checksums do not hold or do not cover it", image.directory.display())
            })
            .collect();
        if let Some(expected) = &self.adds {
            let [first, second] = images else {
                return Err(Failed::new(ExitCode::BadInput, "--adds compares exactly two images"));
            };
            let difference = first.difference(second);
            if !difference.adds_exactly(expected) {
                wrong.push(format!(
                    "{} should differ from {} by exactly +{}, and differs by: {difference}",
                    second.directory.display(),
                    first.directory.display(),
                    expected.join(", +")
                ));
            }
        }
        Ok(wrong)
    }
}

/// All images, read at the same time: hashing and unpacking keep a core busy for each.
fn inspected(directories: &[PathBuf]) -> Result<Vec<Inspection>, InspectError> {
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            directories.iter().map(|directory| scope.spawn(|| Inspection::of(directory))).collect();
        let join = |reader: std::thread::ScopedJoinHandle<'_, _>| match reader.join() {
            Ok(inspection) => inspection,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        readers.into_iter().map(join).collect()
    })
}
