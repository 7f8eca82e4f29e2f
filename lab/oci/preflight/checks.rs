//! The preflight checks.

use std::time::Duration;

use lab_image::FileVerdict;
use lab_model::{Diagnostic, Diagnostics, Severity, node::Role};
use serde::Serialize;

use super::image::PreflightImage;

/// The extension that a gateway image requires.
const TAILSCALE: &str = "tailscale";

/// The limits for the checks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum age of an image that a tag refers to.
    pub age: Duration,
    /// The current time for the age check.
    pub now: jiff::Timestamp,
}

impl Limits {
    /// The default maximum build age of a tag, in days.
    pub const OLD_DAYS: u64 = 60;

    /// Creates limits relative to the current time.
    pub fn of_days(days: u64) -> Self {
        Self { age: Duration::from_secs(days * 24 * 60 * 60), now: jiff::Timestamp::now() }
    }
}

/// The images and their findings.
#[derive(Debug, Serialize)]
pub struct Preflight {
    pub images: Vec<PreflightImage>,
    /// The findings, most severe first.
    #[serde(serialize_with = "super::report::findings")]
    pub findings: Diagnostics,
}

impl Preflight {
    /// Checks each image, then all images together.
    pub fn of(images: Vec<PreflightImage>, limits: Limits) -> Self {
        let mut findings = Vec::new();
        for image in &images {
            checksums(image, &mut findings);
            architecture(image, &mut findings);
            age(image, limits, &mut findings);
            role(image, &mut findings);
            mounts(image, &mut findings);
        }
        together(&images, &mut findings);
        Self { images, findings: Diagnostics::worst_first(findings) }
    }

    /// Reports whether the findings permit booting.
    pub fn passed(&self) -> bool {
        self.findings.count(Severity::Error) == 0
    }
}

impl PreflightImage {
    fn finding(
        &self,
        severity: Severity,
        check: &'static str,
        message: String,
        help: &'static str,
    ) -> Diagnostic {
        let finding = Diagnostic::of_file(message).in_file(&self.origin.source).help(help);
        finding.severity(severity).rule(check)
    }

    fn has(&self, extension: &str) -> bool {
        self.inspection.contents.extensions.iter().any(|e| e.name == extension)
    }
}

fn checksums(image: &PreflightImage, findings: &mut Vec<Diagnostic>) {
    let files = &image.inspection.checksums;
    let uncovered = |verdict| verdict == FileVerdict::Uncovered;
    if files.iter().all(|file| uncovered(file.verdict)) {
        let message = "no checksum file covers the boot files".to_owned();
        let help =
            "put checksums.sha256 beside them: sha256sum boot/vmlinuz boot/initramfs.xz > checksums.sha256";
        findings.push(image.finding(Severity::Warning, "checksums", message, help));
        return;
    }
    for file in files {
        let (message, help) = match file.verdict {
            FileVerdict::Matches => continue,
            FileVerdict::Mismatch => ("differs from its checksum", "rebuild or fetch the image again"),
            FileVerdict::Missing => (
                "has a checksum, but does not exist",
                "fetch the complete image, or create the checksums again",
            ),
            FileVerdict::Uncovered => {
                ("has no checksum, other files have", "write the checksums after the last file")
            }
        };
        findings.push(image.finding(Severity::Error, "checksums", format!("{} {message}", file.path), help));
    }
}

fn architecture(image: &PreflightImage, findings: &mut Vec<Diagnostic>) {
    for program in &image.inspection.contents.foreign {
        let help = "the extension was built for another architecture (exec format error at run time): take its arm64 image";
        findings.push(image.finding(Severity::Error, "architecture", program.clone(), help));
    }
    if let Some(named) = image.origin.architecture.as_deref().filter(|named| !["", "arm64"].contains(named)) {
        let message = format!("its content is for arm64 and its config says {named}");
        let help = "push it with --platform linux/arm64, else others will not find it";
        findings.push(image.finding(Severity::Warning, "architecture", message, help));
    }
}

fn age(image: &PreflightImage, limits: Limits, findings: &mut Vec<Diagnostic>) {
    let Some(created) = image.origin.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok())
    else {
        return;
    };
    let age = limits.now.duration_since(created);
    // Reproducible builds use the start of the epoch as their build time.
    if !image.origin.mutable || created.as_second() <= 0 || age.as_secs_f64() < limits.age.as_secs_f64() {
        return;
    }
    let days = age.as_hours() / 24;
    let message = format!("the tag names a build of {days} days ago");
    let help = "push a new build, or pin this build with `lab image pin`";
    findings.push(image.finding(Severity::Warning, "age", message, help));
}

fn role(image: &PreflightImage, findings: &mut Vec<Diagnostic>) {
    let (role, help) = match image.role.as_ref().map(Role::as_str) {
        Some(Role::COMPUTE) if image.has(TAILSCALE) => (
            "is meant for compute nodes and has the extension tailscale",
            "take the compute image; every node with it would wait for a Tailscale configuration",
        ),
        Some(Role::GATEWAY) if !image.has(TAILSCALE) => (
            "is meant for the gateway and lacks the extension tailscale",
            "take the gateway image; nothing would route the tailnet",
        ),
        _ => return,
    };
    findings.push(image.finding(Severity::Error, "role", role.to_owned(), help));
}

fn mounts(image: &PreflightImage, findings: &mut Vec<Diagnostic>) {
    for service in &image.inspection.contents.services {
        for mount in &service.impossible_mounts {
            let message = format!(
                "the service {} mounts {mount}: Talos would create that source on its read-only root",
                service.id
            );
            let help = "give an absolute path as the mount's source, below /var or /run if it does not exist";
            findings.push(image.finding(Severity::Error, "mounts", message, help));
        }
    }
}

/// Compares the images with each other. The base is the first compute image, otherwise the first image.
fn together(images: &[PreflightImage], findings: &mut Vec<Diagnostic>) {
    let compute =
        images.iter().position(|image| image.role.as_ref().is_some_and(|r| r.as_str() == Role::COMPUTE));
    let Some(base) = images.get(compute.unwrap_or(0)) else { return };
    for image in images.iter().filter(|image| !std::ptr::eq(*image, base)) {
        let difference = base.inspection.difference(&image.inspection);
        let against = &base.origin.source;
        if difference.same_digest {
            let message = format!("has the same content as {against}");
            let help = "both variants were pushed from one build: build and push the other";
            findings.push(image.finding(Severity::Error, "same", message, help));
            continue;
        }
        let gateway = image.role.as_ref().is_some_and(Role::is_gateway);
        if gateway && image.has(TAILSCALE) && !difference.adds_exactly(&[TAILSCALE.to_owned()]) {
            let message =
                format!("should differ from {against} by exactly +{TAILSCALE}, and differs by: {difference}");
            let help = "build both variants from one state of their sources";
            findings.push(image.finding(Severity::Error, "delta", message, help));
        }
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
