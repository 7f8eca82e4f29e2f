//! The rules, one per file. A rule looks at the evidence and reports findings, each with its cause, its place and a
//! remedy, and how many things it has looked at.

mod age;
mod architecture;
mod boards;
mod container_platform;
mod container_programs;
mod containerd_sections;
mod distinct;
mod document_digests;
mod extension_compatibility;
mod extension_services;
mod extension_set;
mod extension_versions;
mod looked;
mod module_config;
mod module_dependencies;
mod module_kernel;
mod module_signature;
mod one_build;
mod placeholders;
mod provenance;
mod readable;
mod registry;
mod revision;
mod runtime_programs;
mod stale_tag;
mod talos_version;

#[cfg(test)]
pub(crate) mod fixture;

pub use looked::Looked;

use crate::evidence::Evidence;

/// A rule.
pub struct Rule {
    /// The name, as `accept:` and reports write it.
    pub name: &'static str,
    /// What must hold, as a sentence.
    pub holds: &'static str,
    /// What it looks at, in the plural.
    pub subjects: &'static str,
    pub look: fn(&Evidence) -> Looked,
}

/// All rules, in the order of reports.
pub static RULES: [Rule; 25] = [
    readable::RULE,
    architecture::RULE,
    container_platform::RULE,
    container_programs::RULE,
    module_kernel::RULE,
    module_signature::RULE,
    module_dependencies::RULE,
    module_config::RULE,
    containerd_sections::RULE,
    runtime_programs::RULE,
    extension_services::RULE,
    extension_compatibility::RULE,
    extension_set::RULE,
    extension_versions::RULE,
    talos_version::RULE,
    one_build::RULE,
    distinct::RULE,
    age::RULE,
    stale_tag::RULE,
    revision::RULE,
    document_digests::RULE,
    placeholders::RULE,
    registry::RULE,
    boards::RULE,
    provenance::RULE,
];

/// The names of all rules.
pub fn names() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.name).collect()
}
