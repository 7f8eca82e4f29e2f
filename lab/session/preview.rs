//! Shows the user what a run would do.

use futures::{FutureExt, future::BoxFuture};
use lab_model::{
    accelerator::Accelerator,
    events::{EventKind, Recorder},
};
use lab_oci::registry::Store;
use lab_plan::cluster::{ImageDelivery, Plan, PreparedImage};
use lab_vm::{
    host::SpeedFactor,
    machine::{HostPlatform, QemuBinary, choose_accelerator},
};

use super::{
    open::{SessionError, SessionOptions},
    planning::Planning,
    speed::{kept_measurement, speed_key},
    start::{ClusterRequest, StartError},
};

/// Makes plans and starts nothing: no virtual machine, no registry, no run directory. It queries the version
/// and the accelerators of QEMU, and it fetches and unpacks images into the cache.
pub struct Preview {
    options: SessionOptions,
    qemu: QemuBinary,
    accelerator: Accelerator,
}

impl Preview {
    /// Detects the capabilities of the host.
    ///
    /// # Errors
    /// If there is no usable QEMU or accelerator.
    pub fn open(options: SessionOptions) -> BoxFuture<'static, Result<Self, SessionError>> {
        async move {
            let qemu = QemuBinary::find(options.qemu.as_deref()).await?;
            let (accelerator, _) = choose_accelerator(&HostPlatform::current(), &qemu, options.accelerator)?;
            Ok(Self { options, qemu, accelerator })
        }
        .boxed()
    }

    /// The plan for a request, and notes for the user, one sentence each.
    ///
    /// # Errors
    /// The same errors as a start that fails before the first boot.
    pub fn plan(&self, request: ClusterRequest) -> BoxFuture<'_, Result<(Plan, Vec<String>), StartError>> {
        self.planned(request).boxed()
    }

    async fn planned(&self, request: ClusterRequest) -> Result<(Plan, Vec<String>), StartError> {
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        let planning =
            Planning { options: &self.options, accelerator: self.accelerator, recorder: &recorder };
        let images = planning.prepare_images(&request.spec).await?;
        let store = Store::open(&planning.layouts())?;
        let mut budgets = request.budgets.clone();
        let (factor, from) = self.speed_factor(images.values().next());
        planning.note(format!("speed factor {factor}: {from}"));
        budgets.speed_factor = factor.get();
        let plan = Plan::new(request.spec.clone(), planning.inputs(&request, images, &store, budgets))?;
        planning.note_releases(&plan);
        planning.check_configs(&plan).await?;
        for (port, upstreams) in planning.further_ports(&plan) {
            let names: Vec<_> = upstreams.iter().map(String::as_str).collect();
            planning.note(format!(
                "image registry: a run answers at port {port}, too, as the mirror of {}, if the port is free",
                names.join(", ")
            ));
        }
        let pulled = planning.images_to_pull(&plan, &request, &store)?;
        if plan.spec.image_delivery == ImageDelivery::Disk {
            planning
                .note(format!("image disk: a run puts {} images on it; it is not written now", pulled.len()));
        }
        if plan.delivery == ImageDelivery::Preloaded {
            planning.note(
                "preloaded disk: a run that forms the cluster uses it, and makes it if there is none"
                    .to_owned(),
            );
        }
        let mut notes = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let EventKind::Note { text, .. } = event.kind {
                notes.push(text);
            }
        }
        Ok((plan, notes))
    }

    /// The measurement of an earlier run if it is still valid, and its source.
    fn speed_factor(&self, image: Option<&PreparedImage>) -> (SpeedFactor, &'static str) {
        let kept = image.and_then(|image| {
            let key = speed_key(&self.options, &self.qemu, self.accelerator, image);
            kept_measurement(&self.options, &key)
        });
        match kept {
            Some(measurement) => (measurement.factor, "measured by an earlier run"),
            None => (SpeedFactor::REFERENCE, "assumed, because a dry run measures nothing"),
        }
    }
}
