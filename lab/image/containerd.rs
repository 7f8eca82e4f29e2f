//! containerd in an image: its major version, and what its configuration files declare.
//!
//! Formats: the build information of Go programs (Go debug/buildinfo, "The build info blob"), and containerd's
//! configuration (containerd docs/cri/config.md). containerd 1 reads runtimes from the section
//! `plugins."io.containerd.grpc.v1.cri"`, containerd 2 from `plugins."io.containerd.cri.v1.runtime"`.

use memchr::memmem::find;
use serde::{Deserialize, Serialize};

/// The mark of the build information in a Go program.
const BUILD_INFO: &[u8] = b"\xff Go buildinf:";
/// The offset of the first inline text.
const INLINE: usize = 32;
/// The flag of inline texts, as Go has written them since 1.18.
const IS_INLINE: u8 = 2;
/// The largest list of modules, in bytes.
const LIST_LIMIT: usize = 1 << 20;
/// The plugin with the runtimes in containerd 1 and in containerd 2.
const PLUGINS: [(u32, &str); 2] = [(1, "io.containerd.grpc.v1.cri"), (2, "io.containerd.cri.v1.runtime")];

/// Returns the major version of a containerd program: from the path of its Go module, or, if a build without modules
/// has no such path, from the names of its packages.
pub fn containerd_major(program: &[u8]) -> Option<u32> {
    let modules = go_modules(program);
    let named = |line: &str| {
        let mut fields = line.split('\t');
        let kind = fields.next()?;
        let path = fields.next()?.strip_prefix("github.com/containerd/containerd")?;
        (["mod", "path"].contains(&kind)).then(|| major_of(path)).flatten()
    };
    if let Some(major) = modules.as_deref().and_then(|modules| modules.lines().find_map(named)) {
        return Some(major);
    }
    let has = |text: &str| find(program, text.as_bytes()).is_some();
    if has("github.com/containerd/containerd/v2/") {
        return Some(2);
    }
    has("github.com/containerd/containerd/").then_some(1)
}

/// Returns 2 for `/v2/cmd/containerd`, and 1 for a path without a version.
fn major_of(path: &str) -> Option<u32> {
    let mut parts = path.split('/');
    match (parts.next(), parts.next()) {
        (Some(""), Some(part)) => Some(part.strip_prefix('v').and_then(|n| n.parse().ok()).unwrap_or(1)),
        (Some(""), None) => Some(1),
        _ => None,
    }
}

/// Returns the list of modules in a Go program, one per line.
pub fn go_modules(program: &[u8]) -> Option<String> {
    let start = find(program, BUILD_INFO)?;
    let info = program.get(start..)?;
    if info.get(15)? & IS_INLINE == 0 {
        return None;
    }
    let (_, rest) = text(info.get(INLINE..)?)?;
    let (list, _) = text(rest)?;
    // Sixteen bytes before and behind the list mark it in memory.
    let list = list.get(16..list.len().checked_sub(16)?)?;
    Some(String::from_utf8_lossy(list).into_owned())
}

/// Splits off a text, with its length as a variable-length number before it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut shift) = (0_usize, 0);
    for (at, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let rest = bytes.get(at + 1..)?;
            return (length <= LIST_LIMIT).then(|| rest.split_at_checked(length)).flatten();
        }
    }
    None
}

/// What a configuration file of containerd declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeConfig {
    /// The version of the format, if the file names one.
    pub version: Option<i64>,
    pub handlers: Vec<RuntimeHandler>,
}

/// A runtime handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeHandler {
    pub name: String,
    /// The plugin whose section declares it.
    pub plugin: String,
    /// The type, such as `io.containerd.runc.v2`.
    pub runtime_type: Option<String>,
    /// The path of the shim, which replaces the type.
    pub runtime_path: Option<String>,
    /// The program that the shim starts (`options.BinaryName`).
    pub binary: Option<String>,
}

impl RuntimeConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Returns a description of the problem.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let file: toml::Table = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("not TOML at byte {at}: {}", error.message())
        })?;
        let mut found =
            Self { version: file.get("version").and_then(toml::Value::as_integer), ..Self::default() };
        let plugins = file.get("plugins").and_then(toml::Value::as_table);
        for (plugin, content) in plugins.into_iter().flatten() {
            let runtimes = content.get("containerd").and_then(|part| part.get("runtimes"));
            for (name, runtime) in runtimes.and_then(toml::Value::as_table).into_iter().flatten() {
                let value = |value: Option<&toml::Value>| {
                    value.and_then(toml::Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
                };
                found.handlers.push(RuntimeHandler {
                    name: name.clone(),
                    plugin: plugin.clone(),
                    runtime_type: value(runtime.get("runtime_type")),
                    runtime_path: value(runtime.get("runtime_path")),
                    binary: value(runtime.get("options").and_then(|options| options.get("BinaryName"))),
                });
            }
        }
        Ok(found)
    }
}

impl RuntimeHandler {
    /// The plugin whose section containerd of this major version reads.
    pub fn plugin_of(major: u32) -> &'static str {
        PLUGINS.iter().find(|(of, _)| *of >= major).map_or(PLUGINS[1].1, |(_, plugin)| plugin)
    }

    /// The name or the path of the shim (containerd docs/runtime-v2.md: the last two parts of the type).
    pub fn shim(&self) -> Option<String> {
        if let Some(path) = &self.runtime_path {
            return Some(path.clone());
        }
        let kind = self.runtime_type.as_deref()?;
        if kind.starts_with('/') {
            return Some(kind.to_owned());
        }
        let mut parts = kind.rsplit('.');
        let (version, name) = (parts.next()?, parts.next()?);
        Some(format!("containerd-shim-{name}-{version}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A Go program with this list of modules.
    fn program(list: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(64, 0);
        bytes.extend(BUILD_INFO);
        bytes.extend([8, IS_INLINE]);
        bytes.resize(64 + INLINE, 0);
        let list = format!("{0}{list}{0}", "x".repeat(16));
        for text in ["go1.24", &list] {
            bytes.push((text.len() & 0x7f) as u8 | 0x80);
            bytes.push((text.len() >> 7) as u8);
            bytes.extend(text.bytes());
        }
        bytes
    }

    #[test]
    fn the_major_version_is_in_the_path_of_the_module() {
        for (list, major) in [
            (
                "path\tgithub.com/containerd/containerd/v2/cmd/containerd\nmod\tgithub.com/containerd/containerd/v2\tv2.1.4\n",
                Some(2),
            ),
            (
                "path\tgithub.com/containerd/containerd/cmd/containerd\nmod\tgithub.com/containerd/containerd\tv1.7.2\n",
                Some(1),
            ),
            ("path\tcommand-line\ndep\tgithub.com/containerd/log\tv1\n", None),
        ] {
            assert_eq!(containerd_major(&program(list)), major, "{list}");
        }
        assert_eq!(containerd_major(b"... github.com/containerd/containerd/v2/core ..."), Some(2));
        assert_eq!(containerd_major(b"... github.com/containerd/containerd/runtime ..."), Some(1));
        assert_eq!(containerd_major(b"another program"), None);
    }

    #[test]
    fn handlers_keep_the_section_that_declares_them() {
        let text = b"version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin]\nruntime_type = 'io.containerd.spin.v2'\n\
            [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.youki]\nruntime_type = 'io.containerd.runc.v2'\n\
            [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.youki.options]\nBinaryName = '/usr/bin/youki'\n";
        let config = RuntimeConfig::parse(text).expect("config");
        assert_eq!(config.version, Some(3));
        let by_name =
            |name: &str| config.handlers.iter().find(|handler| handler.name == name).expect("handler");
        assert_eq!(by_name("spin").shim().as_deref(), Some("containerd-shim-spin-v2"));
        assert_eq!(by_name("spin").plugin, RuntimeHandler::plugin_of(2));
        assert_eq!(by_name("youki").binary.as_deref(), Some("/usr/bin/youki"));
        assert_eq!(by_name("youki").plugin, RuntimeHandler::plugin_of(1));
        assert!(RuntimeConfig::parse(b"[plugins").expect_err("TOML").starts_with("not TOML at byte "));
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at: prop::sample::Index, byte: u8, keep: prop::sample::Index) {
            let mut program = program("mod\tgithub.com/containerd/containerd/v2\tv2\n");
            let length = program.len();
            program[at.index(length)] = byte;
            let _ = containerd_major(&program[..keep.index(length)]);
        }
    }
}
