//! The spec of an extension service: its name and dependencies.
//!
//! Format: Talos pkg/machinery/extensions/services. The parser ignores keys for container settings and
//! unknown keys of later versions.

use serde::Deserialize;

use super::{contents::ExtensionService, plain::plain};

/// The parts of a spec that determine when the service starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceSpec {
    name: String,
    #[serde(default)]
    depends: Option<Vec<Dependency>>,
    #[serde(default)]
    container: Option<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Dependency {
    service: Option<String>,
    path: Option<String>,
    network: Option<Vec<String>>,
    time: bool,
    configuration: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    entrypoint: Option<String>,
    environment_file: Option<String>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mount {
    source: String,
    destination: String,
}

/// The files that a service needs on its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFiles {
    /// The name of the service, which is also the name of its root directory.
    pub name: String,
    /// The program, as written; a path in the root of the service, or a name.
    pub entrypoint: Option<String>,
    /// The absolute sources of the mounts, with their destinations.
    pub mounts: Vec<(String, String)>,
}

impl ServiceSpec {
    /// Parses a spec.
    ///
    /// # Errors
    /// Returns a description of the problem, in one sentence.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let spec: Self = serde_yaml::from_slice(text)
            .map_err(|error| format!("not the spec of an extension service: {error}"))?;
        if spec.name.is_empty() {
            return Err("the service has no name".to_owned());
        }
        Ok(spec)
    }

    /// Converts the spec to a service of `extension`.
    pub fn service(&self, extension: &str) -> ExtensionService {
        let depends = self.depends.iter().flatten();
        // Talos treats the environment file as a dependency on a path.
        let file = self.container.as_ref().and_then(|container| container.environment_file.as_ref());
        let words = depends.clone().flat_map(Dependency::words);
        ExtensionService {
            id: format!("ext-{}", self.name),
            extension: extension.to_owned(),
            depends: words.chain(file.map(|path| format!("path {path}"))).collect(),
            needs_configuration: depends.clone().any(|dependency| dependency.configuration),
            impossible_mounts: self.impossible_mounts(),
        }
    }
}

impl ServiceSpec {
    /// Returns the files that the service needs.
    pub fn files(&self) -> ServiceFiles {
        let container = self.container.clone().unwrap_or_default();
        let mounts = container.mounts.into_iter().flatten().filter(|mount| mount.source.starts_with('/'));
        ServiceFiles {
            name: self.name.clone(),
            entrypoint: container.entrypoint.filter(|entrypoint| !entrypoint.is_empty()),
            mounts: mounts.map(|mount| (mount.source, mount.destination)).collect(),
        }
    }

    /// Returns the mounts whose source Talos cannot create. Before each start, it creates the missing source
    /// directory of every mount, independent of the type (`internal/app/machined/pkg/system/services/extension.go`).
    /// A relative path is in the root directory, which is read-only.
    fn impossible_mounts(&self) -> Vec<String> {
        let mounts = self.container.as_ref().and_then(|container| container.mounts.as_ref());
        let impossible = mounts.into_iter().flatten().filter(|mount| !mount.source.starts_with('/'));
        impossible.map(|mount| format!("{} at {}", plain(&mount.source), plain(&mount.destination))).collect()
    }
}

impl Dependency {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.service.as_ref().map(|name| format!("service {name}")));
        words.extend(self.path.as_ref().map(|path| format!("path {path}")));
        words.extend(self.network.as_ref().map(|states| format!("network {}", states.join(", "))));
        words.extend(self.time.then(|| "time".to_owned()));
        words.extend(self.configuration.then(|| "configuration".to_owned()));
        words
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_environment_file_is_waited_for_like_a_path() {
        let text = b"name: x\ncontainer: {environmentFile: /var/x.env, entrypoint: /x}\nrestart: always\n";
        let service = ServiceSpec::parse(text).expect("spec").service("y");
        assert_eq!(service.depends, ["path /var/x.env"]);
        assert!(!service.needs_configuration);
    }

    #[test]
    fn a_mount_that_talos_cannot_prepare_is_named() {
        let mounts = |source: &str| {
            let text = format!(
                "name: x\ncontainer: {{mounts: [{{source: '{source}', destination: /tmp, type: tmpfs}}]}}\n"
            );
            ServiceSpec::parse(text.as_bytes()).expect("spec").service("y").impossible_mounts
        };
        assert_eq!(mounts("tmpfs"), ["tmpfs at /tmp"]);
        assert_eq!(mounts("/var/lib/tailscale"), [""; 0]);
    }

    #[test]
    fn a_spec_without_a_name_is_refused() {
        assert_eq!(ServiceSpec::parse(b"name: ''\n").expect_err("nameless"), "the service has no name");
        assert!(ServiceSpec::parse(b"depends: []\n").expect_err("nameless").contains("missing field `name`"));
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_panic(text in "(name|depends|[-:{}\\[\\]&*!|> \n]|[a-z])*") {
            let _ = ServiceSpec::parse(text.as_bytes());
        }
    }
}
