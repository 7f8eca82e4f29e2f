//! Converts a release file to a [`Release`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_model::{
    Diagnostic, InvalidFile, Position, Source,
    diagnostic::{Located, from_yaml, yaml_options},
    files::{directory_of, is_plain, read_text_bounded},
    node::{NodeName, Role},
    words::choice,
    yaml::within_limits,
};
use lab_oci::images::Reference;
use semver::Version;

use super::{
    raw::{RawNode, RawProof, RawRelease, Text},
    spec::{
        Acceptance, Board, ConfigFile, Form, ListedFile, ListedSource, NodePart, NodeVariant, ProvenanceRule,
        Release, RoleRule,
    },
    tag::ReleaseTag,
};

/// The largest release file, in bytes.
const LARGEST: usize = 1 << 20;
/// The maximum number of files that one pattern names.
const FILES: usize = 1000;
/// The variant of nodes that name none.
const DEFAULT_VARIANT: &str = "metal";
/// The default maximum age of a build that `latest` also names, in days.
const OLD_DAYS: u32 = 60;

impl Release {
    /// Reads a release file. Paths in it are relative to its directory. `rules` are the names of the rules.
    ///
    /// # Errors
    /// Returns all problems of the file.
    pub fn read(path: &Path, rules: &[&str]) -> Result<Self, InvalidFile> {
        let file = path.display().to_string();
        let text = read_text_bounded(path, LARGEST as u64).map_err(|error| {
            InvalidFile::new(&file, "", vec![Diagnostic::of_file(format!("it cannot be read: {error}"))])
        })?;
        Self::parse(&file, &text, directory_of(path), rules)
    }

    /// Parses the text of a release file. `file` is its name in messages.
    ///
    /// # Errors
    /// Returns all problems of the file. Never panics, for any input.
    pub fn parse(file: &str, text: &str, directory: &Path, rules: &[&str]) -> Result<Self, InvalidFile> {
        let wrong = |problem: Diagnostic| InvalidFile::new(file, text, vec![problem]);
        within_limits(text, LARGEST)
            .map_err(|error| wrong(Diagnostic::at(&error.position, error.message)))?;
        let raw: RawRelease = serde_saphyr::from_str_with_options(text, yaml_options())
            .map_err(|error| wrong(from_yaml(&error)))?;
        let mut lowering = Lowering { directory, rules, problems: Vec::new() };
        let release = lowering.release(file, raw);
        if lowering.problems.is_empty() {
            return Ok(release);
        }
        Err(InvalidFile::new(file, text, lowering.problems))
    }
}

struct Lowering<'a> {
    directory: &'a Path,
    rules: &'a [&'a str],
    problems: Vec<Diagnostic>,
}

fn position(text: &impl Located) -> Position {
    text.position().unwrap_or(Position::START)
}

impl Lowering<'_> {
    fn report(&mut self, at: &impl Located, message: impl Into<String>, help: &str) {
        self.problems.push(Diagnostic::at(at, message).help(help));
    }

    fn release(&mut self, file: &str, raw: RawRelease) -> Release {
        let tag = ReleaseTag::parse(&raw.release.value).map(|tag| tag.release());
        if raw.release.value.trim().is_empty() {
            self.report(&raw.release, "the release has no name", "write the tag of the release");
        }
        let talos = raw
            .talos
            .as_ref()
            .and_then(|text| self.talos(text))
            .or(tag.as_ref().map(|tag| tag.talos.clone()));
        let roles: BTreeMap<Role, RoleRule> = raw
            .roles
            .into_iter()
            .filter_map(|(name, rule)| match Role::new(name.as_str()) {
                Ok(role) => Some((role, RoleRule { extensions: rule.extensions })),
                Err(error) => {
                    self.problems.push(Diagnostic::of_file(format!("roles: {error}")));
                    None
                }
            })
            .collect();
        let boards: BTreeMap<String, Board> = raw
            .boards
            .into_iter()
            .map(|(name, board)| {
                let super::raw::RawBoard { device_trees, overlays, devices } = board;
                (name, Board { device_trees, overlays, devices })
            })
            .collect();
        let nodes = self.nodes(raw.nodes, &roles, &boards);
        let configs =
            raw.configs.into_iter().flat_map(|(role, files)| self.configs(&role, &files, &roles)).collect();
        let containers: Vec<_> = raw
            .containers
            .images
            .iter()
            .filter_map(|text| Some(ListedSource { source: self.source(text)?, position: position(text) }))
            .collect();
        let packages: Vec<_> = raw.containers.packages.iter().filter_map(|text| self.package(text)).collect();
        let manifests = self.files(&raw.containers.manifests);
        let documents = self.files(&raw.documents);
        if nodes.is_empty() && containers.is_empty() && manifests.is_empty() && packages.is_empty() {
            self.report(
                &Position::START,
                "the release names no image, so there is nothing to check",
                "name node images in `nodes:` or container images in `containers:`; `lab gate init` writes a first file",
            );
        }
        let accepted = raw.accept.into_iter().map(|entry| self.acceptance(entry)).collect();
        let days = raw.max_age_days.map_or(OLD_DAYS, |days| days.value);
        Release {
            file: file.to_owned(),
            directory: self.directory.to_owned(),
            tag,
            name: raw.release.value,
            previous: raw.previous.map(|text| text.value),
            registry: raw.registry.map(|text| text.value.trim_end_matches('/').to_owned()),
            also_from: raw
                .also_from
                .into_iter()
                .map(|text| text.value.trim_end_matches('/').to_owned())
                .collect(),
            talos,
            roles,
            boards,
            nodes,
            containers,
            manifests,
            packages,
            documents,
            configs,
            provenance: raw.provenance.and_then(|raw| {
                let requires = |proof| raw.require.contains(&proof);
                Some(ProvenanceRule {
                    key: self.one_file(&raw.key)?,
                    signatures: requires(RawProof::Signatures),
                    attestations: requires(RawProof::Attestations),
                })
            }),
            age: Duration::from_secs(u64::from(days) * 24 * 60 * 60),
            accepted,
        }
    }

    fn talos(&mut self, text: &Text) -> Option<Version> {
        let version = Version::parse(text.value.trim_start_matches('v'));
        if let Err(error) = &version {
            let message = format!("\"{}\" is not a version of Talos: {error}", text.value);
            self.report(text, message, "write it as in its releases, e.g. v1.13.5");
        }
        version.ok()
    }

    fn nodes(
        &mut self,
        raw: Vec<RawNode>,
        roles: &BTreeMap<Role, RoleRule>,
        boards: &BTreeMap<String, Board>,
    ) -> Vec<NodeVariant> {
        let mut nodes: Vec<NodeVariant> = Vec::new();
        for entry in raw {
            let role = self.role(&entry.role, roles);
            if let Some(board) = &entry.board
                && !boards.contains_key(&board.value)
            {
                let names: Vec<_> = boards.keys().collect();
                let help = choice(&board.value, &names, "boards of this release").unwrap_or_default();
                self.report(board, format!("no board \"{}\"", board.value), &help);
            }
            let variant = entry.variant.as_ref().or(entry.board.as_ref());
            let name = variant.map_or(DEFAULT_VARIANT, |text| text.value.as_str());
            if let (Err(error), Some(text)) = (NodeName::new(name), variant) {
                self.problems
                    .push(Diagnostic::at(text, error.to_string().replace("a node name", "a variant")));
            }
            let forms = [entry.image, entry.installer, entry.matchbox, entry.raw];
            let parts: Vec<_> = Form::ALL
                .into_iter()
                .zip(&forms)
                .filter_map(|(form, text)| {
                    let text = text.as_ref()?;
                    Some(NodePart { form, source: self.source(text)?, position: position(text) })
                })
                .collect();
            if forms.iter().all(Option::is_none) {
                let help = "name at least one of image, installer, matchbox, raw";
                self.report(&entry.role, "this node names no image", help);
            }
            let Some(role) = role else { continue };
            if nodes.iter().any(|node| node.role == role && node.variant == name) {
                let help = "give them different variants, or put both forms in one entry";
                self.report(&entry.role, format!("{role}/{name} is named twice"), help);
            }
            let board = entry.board.as_ref().map(|text| text.value.clone());
            nodes.push(NodeVariant { role, variant: name.to_owned(), board, parts });
        }
        nodes
    }

    fn role(&mut self, text: &Text, roles: &BTreeMap<Role, RoleRule>) -> Option<Role> {
        let role = match Role::new(text.value.as_str()) {
            Ok(role) => role,
            Err(error) => {
                self.problems.push(Diagnostic::at(text, error.to_string()));
                return None;
            }
        };
        if !roles.is_empty() && !roles.contains_key(&role) {
            let names: Vec<_> = roles.keys().map(Role::as_str).collect();
            let help = choice(&text.value, &names, "roles of this release").unwrap_or_default();
            self.report(text, format!("no role \"{role}\""), &help);
        }
        Some(role)
    }

    fn configs(&mut self, role: &str, files: &[Text], roles: &BTreeMap<Role, RoleRule>) -> Vec<ConfigFile> {
        let known = Role::new(role).ok().filter(|role| roles.is_empty() || roles.contains_key(role));
        let Some(role) = known else {
            let names: Vec<_> = roles.keys().map(Role::as_str).collect();
            let help = choice(role, &names, "roles of this release").unwrap_or_default();
            let at = files.first().map_or(Position::START, position);
            self.report(&at, format!("configs: no role \"{role}\""), &help);
            return Vec::new();
        };
        self.files(files).into_iter().map(|file| ConfigFile { role: role.clone(), file }).collect()
    }

    /// An image: a path relative to the release file, or a reference.
    fn source(&mut self, text: &Text) -> Option<Source> {
        let path = self.directory.join(&text.value);
        if text.value.starts_with(['/', '.']) || path.exists() {
            return Some(Source::Path(path));
        }
        Source::parse(&text.value)
            .map_err(|error| self.problems.push(Diagnostic::at(text, error.to_string())))
            .ok()
    }

    fn package(&mut self, text: &Text) -> Option<(Box<Reference>, Position)> {
        match self.source(text)? {
            Source::Registry(reference) => Some((reference, position(text))),
            Source::Path(_) => {
                let help = "name files on disk in `manifests:`";
                self.report(text, "a package is an artefact in a registry, and this is a path", help);
                None
            }
        }
    }

    /// The files that patterns name, below the directory of the release file.
    fn files(&mut self, patterns: &[Text]) -> Vec<ListedFile> {
        let mut found = Vec::new();
        for text in patterns {
            let (written, at) = (Path::new(&text.value), position(text));
            if !is_plain(written) {
                let help = "write a path below the directory of the release file, without `..`";
                self.report(
                    text,
                    format!("\"{}\" leads out of the directory of the release", text.value),
                    help,
                );
                continue;
            }
            let directory = glob::Pattern::escape(&self.directory.to_string_lossy());
            let pattern = format!("{directory}/{}", text.value);
            let paths = match glob::glob(&pattern) {
                Ok(paths) => {
                    paths.flatten().filter(|path| path.is_file()).take(FILES + 1).collect::<Vec<_>>()
                }
                Err(error) => {
                    self.report(
                        text,
                        format!("not a pattern of files: {error}"),
                        "use * and ** for parts of a path",
                    );
                    continue;
                }
            };
            if paths.is_empty() || paths.len() > FILES {
                let message = format!(
                    "\"{}\" names {} files",
                    text.value,
                    if paths.is_empty() { "no" } else { "too many" }
                );
                self.report(text, message, "paths are relative to the directory of the release file");
            }
            for path in paths.iter().take(FILES) {
                if self.is_within(path) {
                    let path = path.strip_prefix(self.directory).unwrap_or(path).to_owned();
                    found.push(ListedFile { path, position: at });
                } else {
                    let message = format!("{} is a link out of the directory of the release", path.display());
                    self.report(text, message, "copy the file instead");
                }
            }
        }
        found
    }

    fn one_file(&mut self, text: &Text) -> Option<PathBuf> {
        self.files(std::slice::from_ref(text)).pop().map(|file| self.directory.join(file.path))
    }

    fn is_within(&self, path: &Path) -> bool {
        let both = fs::canonicalize(self.directory).and_then(|own| Ok((own, fs::canonicalize(path)?)));
        both.is_ok_and(|(own, path)| path.starts_with(own))
    }

    fn acceptance(&mut self, raw: super::raw::RawAcceptance) -> Acceptance {
        if !self.rules.contains(&raw.rule.value.as_str()) {
            let help = choice(&raw.rule.value, self.rules, "rules").unwrap_or_default();
            self.report(&raw.rule, format!("no rule \"{}\"", raw.rule.value), &help);
        }
        for (text, what) in [(&raw.place, "where"), (&raw.because, "because")] {
            if text.value.trim().is_empty() {
                self.report(
                    text,
                    format!("`{what}` is empty"),
                    "an accepted finding names its place and a reason",
                );
            }
        }
        Acceptance {
            position: position(&raw.rule),
            rule: raw.rule.value,
            place: raw.place.value,
            reason: raw.because.value,
        }
    }
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
