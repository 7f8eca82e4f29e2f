//! Readers of what a node's API sends.

#[path = "../lab/cluster/machine_api/kubeconfig_archive.rs"]
mod kubeconfig_archive;

/// The archive of a kubeconfig: after an odd first byte not yet packed.
pub fn kubeconfig(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let mut packed = data.to_vec();
    if kind % 2 == 1 {
        packed.clear();
        let encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        crate::copy(data, encoder).expect("packing into memory");
    }
    if let Ok(text) = kubeconfig_archive::kubeconfig_in(&packed) {
        let _ = lab_plan::config::AdminKubeconfig::of_foreign(&text);
    }
}
