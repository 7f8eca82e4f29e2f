//! The data: components, and where they are used.

use std::collections::{BTreeMap, BTreeSet};

/// Where a component comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A published crate.
    Crate,
    /// A Go module, or Go's standard library.
    GoModule,
    /// A Debian package.
    DebianPackage,
    /// A toolchain that adds its own library to programs.
    Toolchain,
}

/// One thing that others wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    pub kind: Kind,
    pub name: String,
    pub version: String,
    /// The architecture of a package.
    pub architecture: Option<String>,
    /// An SPDX licence expression: what the component declares, or what its texts are.
    pub licence: Option<String>,
    /// SHA-256 of the released archive, in hex.
    pub sha256: Option<String>,
    pub texts: Vec<LicenceText>,
    /// The parts of the archive that contain it, e.g. `bin/lab`.
    pub parts: BTreeSet<String>,
}

/// A licence, notice or copyright file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LicenceText {
    /// The name of the file in its component.
    pub file: String,
    pub text: String,
}

impl Component {
    pub fn new(kind: Kind, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            version: version.into(),
            architecture: None,
            licence: None,
            sha256: None,
            texts: Vec::new(),
            parts: BTreeSet::new(),
        }
    }

    /// The package URL (ECMA-427), which names the component in every tool.
    pub fn purl(&self) -> String {
        let name: Vec<_> = self.name.split('/').map(escaped).collect();
        let (name, version) = (name.join("/"), escaped(&self.version));
        match (self.kind, &self.architecture) {
            (Kind::Crate, _) => format!("pkg:cargo/{name}@{version}"),
            (Kind::GoModule, _) => format!("pkg:golang/{name}@{version}"),
            (Kind::DebianPackage, Some(arch)) => format!("pkg:deb/debian/{name}@{version}?arch={arch}"),
            (Kind::DebianPackage, None) => format!("pkg:deb/debian/{name}@{version}"),
            (Kind::Toolchain, _) => format!("pkg:generic/{name}@{version}"),
        }
    }
}

/// A segment of a package URL: everything but unreserved characters is percent-encoded.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// All components, each once, in the order of their package URLs.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    components: BTreeMap<String, Component>,
}

impl Inventory {
    /// Adds a component of a part of the archive. `make` finds what is not known of a component that is new.
    pub fn add<E>(
        &mut self,
        component: Component,
        part: &str,
        complete: impl FnOnce(Component) -> Result<Component, E>,
    ) -> Result<(), E> {
        let purl = component.purl();
        let known = match self.components.remove(&purl) {
            Some(known) => known,
            None => complete(component)?,
        };
        self.components.entry(purl).or_insert(known).parts.insert(part.to_owned());
        Ok(())
    }

    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.components.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_escaped() {
        let component = |kind, name, version| Component::new(kind, name, version).purl();
        assert_eq!(component(Kind::Crate, "serde", "1.0.2+x"), "pkg:cargo/serde@1.0.2%2Bx");
        assert_eq!(
            component(Kind::GoModule, "github.com/a/b/v2", "v2.0.0"),
            "pkg:golang/github.com/a/b/v2@v2.0.0"
        );
        let package = Component {
            architecture: Some("arm64".into()),
            ..Component::new(Kind::DebianPackage, "iptables", "1:1.8~rc1-2")
        };
        assert_eq!(package.purl(), "pkg:deb/debian/iptables@1%3A1.8~rc1-2?arch=arm64");
    }

    #[test]
    fn a_component_of_two_parts_is_listed_once() {
        let mut inventory = Inventory::default();
        for part in ["bin/lab", "headscale", "bin/lab"] {
            let component = Component::new(Kind::Crate, "a", "1");
            inventory.add(component, part, Ok::<_, ()>).expect("added");
        }
        let parts: Vec<_> = inventory.components().map(|component| component.parts.len()).collect();
        assert_eq!(parts, [2]);
    }
}
