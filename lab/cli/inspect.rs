//! `lab image inspect`: the contents of images, without a boot.

use clap::Args;
use lab_model::{ExitCode, Source};
use lab_oci::preflight::{Candidate, PreflightImage};

use super::{Failed, preflight::Images, print_json, print_line};

/// Show the contents of images and the differences between them, without a boot.
#[derive(Args)]
pub struct Inspect {
    /// Images: directories, files, archives or HOST/NAME:TAG; each further image is compared with the first
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Fail unless the second of two images equals the first plus exactly these extensions; separate names by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    adds: Option<Vec<String>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: Images,
}

impl Inspect {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let mut candidates = Vec::new();
        for text in &self.images {
            candidates.push(Candidate { role: None, source: Source::parse(text)? });
        }
        let images = PreflightImage::all(candidates, &self.from.store()?).await?;
        let differences: Vec<_> = match images.split_first() {
            Some((first, others)) => {
                others.iter().map(|other| first.inspection.difference(&other.inspection)).collect()
            }
            None => Vec::new(),
        };
        let wrong = self.wrong(&images)?;
        if self.json {
            let value = serde_json::json!({ "images": images, "differences": differences, "wrong": wrong });
            print_json(&value)?;
        } else {
            images.iter().for_each(print_line);
            for (image, difference) in images.iter().skip(1).zip(&differences) {
                print_line(format_args!("{} against the first: {difference}", image.origin.source));
            }
            wrong.iter().for_each(|line| print_line(format_args!("❌ {line}")));
        }
        Ok(if wrong.is_empty() { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }

    /// One sentence for each problem.
    fn wrong(&self, images: &[PreflightImage]) -> Result<Vec<String>, Failed> {
        let mut wrong: Vec<_> = images
            .iter()
            .filter(|image| !image.inspection.is_intact())
            .map(|image| format!("{}: its checksums do not hold or do not cover it", image.origin.source))
            .collect();
        if let Some(expected) = &self.adds {
            let [first, second] = images else {
                return Err(Failed::new(ExitCode::BadInput, "--adds compares exactly two images"));
            };
            let difference = first.inspection.difference(&second.inspection);
            if !difference.adds_exactly(expected) {
                wrong.push(format!(
                    "{} should differ from {} by exactly +{}, and differs by: {difference}",
                    second.origin.source,
                    first.origin.source,
                    expected.join(", +")
                ));
            }
        }
        Ok(wrong)
    }
}
