//! Decisions of a start before anything runs: the images, the inputs of the plan, and the images that nodes
//! will pull. This code opens no port, writes only to the image cache, and starts no process except the
//! validator of machine configs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use lab_image::{BootCache, InspectError, Inspection, NodeImage};
use lab_model::{
    Severity, Source,
    accelerator::Accelerator,
    events::{EventKind, Recorder, Subject},
    node::Role,
};
use lab_oci::{images::Resolved, registry::Store};
use lab_plan::{
    cluster::{Budgets, ClusterSpec, ImageSource, MissingImages, Plan, PlanInputs, PreparedImage},
    lint::NoLibrary,
    network::REGISTRY_PORT,
};
use lab_recipe::KUBERNETES_VERSION;
use lab_validator::Validator;

use super::{
    open::{SessionError, SessionOptions},
    start::{ClusterRequest, StartError},
};

/// The name in machine configs for all upstreams without their own mirror (Talos,
/// `machine.registries.mirrors`).
pub(super) const ANY_UPSTREAM: &str = "*";

/// Makes the decisions for a run with these options.
#[derive(Clone, Copy)]
pub(super) struct Planning<'a> {
    pub(super) options: &'a SessionOptions,
    pub(super) accelerator: Accelerator,
    /// Receives notes about suspicious settings.
    pub(super) recorder: &'a Recorder,
}

impl Planning<'_> {
    /// The plan inputs of the request, with prepared images.
    pub(super) fn inputs(
        self,
        request: &ClusterRequest,
        images: BTreeMap<Role, PreparedImage>,
        store: &Store,
        budgets: Budgets,
    ) -> PlanInputs {
        let mut upstreams: Vec<_> = store.upstreams().into_iter().map(str::to_owned).collect();
        // Pull-through may then provide any image that a node requests.
        upstreams.extend(self.options.pull_through.is_some().then(|| ANY_UPSTREAM.to_owned()));
        PlanInputs {
            images,
            accelerator: self.accelerator,
            cpu_model: self.options.cpu_model.clone(),
            budgets,
            upstreams,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            reference_kubernetes: KUBERNETES_VERSION.trim_start_matches('v').to_owned(),
            faults: request.faults.clone(),
            now: jiff::Timestamp::now(),
        }
    }

    /// Additional ports that machine configs name as mirrors, beside the registry's default port.
    pub(super) fn further_ports(self, plan: &Plan) -> BTreeMap<u16, BTreeSet<String>> {
        let mut ports = plan.mirror_ports();
        ports.remove(&REGISTRY_PORT);
        ports
    }

    /// The images of a plan that nodes will pull and that the store contains. Missing images are an error
    /// unless the run will fetch them.
    pub(super) fn images_to_pull(
        self,
        plan: &Plan,
        request: &ClusterRequest,
        store: &Store,
    ) -> Result<BTreeSet<String>, StartError> {
        let there: BTreeSet<&str> = store.references().collect();
        let workloads = request.workloads.iter().cloned().map(|image| (image, "the checks".to_owned()));
        let needed: Vec<_> = plan.pulled_images().chain(workloads).collect();
        if let Some(missing) = MissingImages::among(needed.clone(), |image| there.contains(image)) {
            self.refuse_or_fetch(missing)?;
        }
        Ok(needed
            .into_iter()
            .map(|(image, _)| image)
            .filter(|image| there.contains(image.as_str()))
            .collect())
    }

    /// The image layouts that nodes pull from. The pull-through layout may not exist yet.
    pub(super) fn layouts(self) -> Vec<PathBuf> {
        let filled = self.options.pull_through.as_ref();
        let given = self.options.mirrors.iter().filter(|mirror| Some(*mirror) != filled).cloned();
        let filled = filled.filter(|mirror| mirror.join("index.json").is_file()).cloned();
        std::iter::once(self.options.images.join("workloads")).chain(given).chain(filled).collect()
    }

    /// Returns an error for missing images unless the run will fetch them. In that case, notes their names.
    fn refuse_or_fetch(self, missing: MissingImages) -> Result<(), StartError> {
        if self.options.pull_through.is_none() {
            return Err(StartError::MissingImages(missing));
        }
        let (fetched, lost) = missing.by_whether_they_can_be_fetched();
        if let Some(lost) = lost {
            return Err(StartError::MissingImages(lost));
        }
        if let Some(fetched) = fetched {
            self.note(format!("fetched once a node asks for them (--pull-through): {}", fetched.each()));
        }
        Ok(())
    }

    /// Returns an error for invalid configs, and notes suspicious settings.
    ///
    /// Talos' own library judges configs with a text of the user. The first check of a release builds the program,
    /// which takes minutes.
    pub(super) async fn check_configs(self, plan: &Plan) -> Result<(), StartError> {
        let (configs, images, recorder) =
            (plan.configs(), self.options.images.clone(), self.recorder.clone());
        let of_the_lab = configs.are_of_the_lab();
        let checked = tokio::task::spawn_blocking(move || {
            if of_the_lab {
                return configs.check(&NoLibrary);
            }
            let progress = move |line: &str| {
                recorder.record(EventKind::Note { subject: Subject::Cluster, text: line.to_owned() });
            };
            configs.check(&Validator::new(&images, progress))
        });
        let checked = checked.await.map_err(|error| SessionError::Host {
            action: "check the machine configs".into(),
            source: std::io::Error::other(error),
        })?;
        if let Err(reason) = checked.asked
            && !of_the_lab
        {
            self.note(format!("{reason}; the lab's tables of keys judged the machine configs"));
        }
        let (errors, warnings): (Vec<_>, Vec<_>) =
            checked.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        for warning in warnings {
            self.note(warning.to_string());
        }
        if errors.is_empty() { Ok(()) } else { Err(StartError::Config(errors)) }
    }

    /// Notes the Talos release of each image, and what follows from it.
    pub(super) fn note_releases(self, plan: &Plan) {
        plan.release_notes().into_iter().for_each(|note| self.note(note));
    }

    pub(super) fn note(self, text: String) {
        self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
    }

    /// The images of all roles, fetched, verified and unpacked in the cache.
    pub(super) async fn prepare_images(
        self,
        spec: &ClusterSpec,
    ) -> Result<BTreeMap<Role, PreparedImage>, StartError> {
        let store = self.options.image_store()?;
        let mut resolved = Vec::new();
        for (role, source) in &spec.images {
            resolved.push((role.clone(), store.resolve(&self.source_of(role, source)).await?));
        }
        let (cache, disks) = (BootCache::new(self.options.root.join("cache/boot")), store.disks());
        // Hashing and unpacking would block the event loop.
        let prepare = move |Resolved { path, origin }: Resolved| {
            let image = NodeImage::open(&path, &disks)?;
            let boot = cache.prepare(&image)?;
            let contents =
                cache.contents(&image, || Inspection::of(&path, &disks).map(|seen| seen.contents))?;
            let arguments = image.found.arguments;
            Ok::<_, InspectError>(PreparedImage { origin, digest: image.digest, boot, contents, arguments })
        };
        // One CPU core for each role.
        let prepared = tokio::task::spawn_blocking(move || {
            std::thread::scope(|scope| {
                let prepare = &prepare;
                let begun =
                    resolved.into_iter().map(|(role, image)| (role, scope.spawn(move || prepare(image))));
                let begun: Vec<_> = begun.collect();
                let done = begun.into_iter().map(|(role, image)| {
                    let image = image.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    Ok((role, image?))
                });
                done.collect::<Result<BTreeMap<_, _>, InspectError>>()
            })
        });
        let prepared = prepared.await.map_err(|error| SessionError::Host {
            action: "prepare the images".into(),
            source: std::io::Error::other(error),
        })?;
        Ok(prepared?)
    }

    fn source_of(self, role: &Role, source: &ImageSource) -> Source {
        let built = |name: &str| Source::Path(self.options.images.join(name));
        match source {
            ImageSource::Reference => {
                self.options.given.get(role).cloned().unwrap_or_else(|| built(role.as_str()))
            }
            ImageSource::ReferenceVariant(name) => built(name),
            ImageSource::Given(source) => source.clone(),
        }
    }
}
