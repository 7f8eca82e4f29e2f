//! The layers, and the imports that break them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::workspace::{Import, Workspace, parent};

/// Each crate with the crates that it may use, from the bottom up.
pub const LAYERS: &[(&str, &[&str])] = &[
    ("lab-model", &[]),
    ("lab-image", &["lab-model"]),
    ("lab-image-fixtures", &[]),
    ("lab-oci", &["lab-model", "lab-image"]),
    ("lab-gate", &["lab-model", "lab-image", "lab-oci"]),
    ("lab-plan", &["lab-model", "lab-image"]),
    ("lab-programs", &["lab-model", "lab-image"]),
    ("lab-validator", &["lab-model", "lab-plan", "lab-programs"]),
    ("lab-vm", &["lab-model"]),
    ("lab-report", &["lab-model"]),
    ("lab-cluster", &["lab-model", "lab-image", "lab-oci", "lab-plan", "lab-programs", "lab-vm"]),
    ("lab-recipe", &["lab-model", "lab-image", "lab-oci"]),
    (
        "lab",
        &[
            "lab-model",
            "lab-image",
            "lab-oci",
            "lab-gate",
            "lab-plan",
            "lab-vm",
            "lab-report",
            "lab-cluster",
            "lab-recipe",
            "lab-validator",
        ],
    ),
    ("lab-imports", &[]),
    ("lab-inventory", &[]),
];

/// How many files of a folder may import each other in a circle.
const LARGEST_CIRCLE: usize = 3;

/// How many imports a message lists.
const SHOWN: usize = 12;

/// What breaks the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A crate of the workspace that has no place in the layers.
    UnknownCrate { manifest: String, name: String },
    /// A manifest lists a crate that its own may not use.
    Dependency { manifest: String, name: String, on: String },
    /// A crate uses what is above or beside it.
    Upward { from: String, to: String, imports: Vec<Import> },
    /// Folders of a crate import each other.
    Folders { folders: Vec<String>, imports: Vec<Import> },
    /// Too many files of a folder import each other in a circle.
    Files { files: Vec<String>, imports: Vec<Import> },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let imports = match self {
            Self::UnknownCrate { manifest, name } => {
                return write!(f, "{manifest}: {name} has no place among the layers; add it to LAYERS");
            }
            Self::Dependency { manifest, name, on } => {
                return write!(f, "{manifest}: {name} may not depend on {on}");
            }
            Self::Upward { from, to, imports } => {
                write!(f, "{from} may not use {to}:")?;
                imports
            }
            Self::Folders { folders, imports } => {
                write!(f, "folders import each other: {}:", folders.join(", "))?;
                imports
            }
            Self::Files { files, imports } => {
                let count = files.len();
                write!(f, "{count} files import each other, {LARGEST_CIRCLE} may: {}:", files.join(", "))?;
                imports
            }
        };
        for import in imports.iter().take(SHOWN) {
            write!(f, "\n  {}:{} imports {}", import.from, import.line, import.to)?;
        }
        if imports.len() > SHOWN {
            write!(f, "\n  and {} more", imports.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// Every dependency and import that breaks a rule.
pub fn violations(workspace: &Workspace) -> Vec<Violation> {
    let mut found = crates(workspace);
    for member in &workspace.members {
        found.extend(folders(workspace, &member.name));
        found.extend(files(workspace, &member.name));
    }
    found
}

fn crates(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    let names: BTreeSet<_> = workspace.members.iter().map(|member| member.name.as_str()).collect();
    for member in &workspace.members {
        let (manifest, name) = (member.manifest.clone(), member.name.clone());
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            found.push(Violation::UnknownCrate { manifest, name });
            continue;
        };
        let own = |on: &&String| names.contains(on.as_str()) && !allowed.contains(&on.as_str());
        found.extend(member.dependencies.iter().filter(own).map(|on| Violation::Dependency {
            manifest: manifest.clone(),
            name: name.clone(),
            on: on.clone(),
        }));
        let mut upward: BTreeMap<&str, Vec<Import>> = BTreeMap::new();
        for import in workspace.imports.iter().filter(|import| workspace.owner(&import.from) == name) {
            let to = workspace.owner(&import.to);
            if to != name && !allowed.contains(&to) {
                upward.entry(to).or_default().push(import.clone());
            }
        }
        found.extend(upward.into_iter().map(|(to, imports)| Violation::Upward {
            from: name.clone(),
            to: to.to_owned(),
            imports,
        }));
    }
    found
}

/// Circles among the folders that lie side by side in one folder of a crate.
fn folders(workspace: &Workspace, member: &str) -> Vec<Violation> {
    let mut edges: BTreeMap<(String, String), Vec<Import>> = BTreeMap::new();
    for import in within(workspace, member) {
        let (from, to) = (parent(&import.from), parent(&import.to));
        if let Some((from, to)) = beside(from, to) {
            edges.entry((from, to)).or_default().push(import.clone());
        }
    }
    let found = circles(&edges).into_iter();
    found.map(|(folders, imports)| Violation::Folders { folders, imports }).collect()
}

/// Circles among the files that lie in one folder of a crate: of each knot, the first that is too long.
fn files(workspace: &Workspace, member: &str) -> Vec<Violation> {
    let mut edges: BTreeMap<(String, String), Vec<Import>> = BTreeMap::new();
    for import in within(workspace, member).filter(|import| parent(&import.from) == parent(&import.to)) {
        edges.entry((import.from.clone(), import.to.clone())).or_default().push(import.clone());
    }
    let found = circles(&edges).into_iter().filter_map(|(knot, _)| {
        let files = long_circle(&edges, &knot)?;
        let next = files.iter().skip(1).chain(files.first());
        let ends = files.iter().zip(next).map(|(from, to)| (from.clone(), to.clone()));
        let imports = ends.flat_map(|ends| edges.get(&ends).cloned().unwrap_or_default()).collect();
        Some(Violation::Files { files, imports })
    });
    found.collect()
}

/// A shortest circle of more files than a circle may have. Files that all import one other file, which
/// imports each of them, form circles of two.
fn long_circle(edges: &Edges, knot: &[String]) -> Option<Vec<String>> {
    (LARGEST_CIRCLE + 1..=knot.len()).find_map(|length| {
        knot.iter().find_map(|start| closed(edges, knot, &mut vec![start.clone()], length))
    })
}

/// The path continued to a circle of this many files. Its first file is its smallest, so that each circle is
/// looked for once.
fn closed(edges: &Edges, knot: &[String], path: &mut Vec<String>, length: usize) -> Option<Vec<String>> {
    let (first, last) = (path.first()?.clone(), path.last()?.clone());
    if path.len() == length {
        return edges.contains_key(&(last, first)).then(|| path.clone());
    }
    for next in knot {
        let edge = (last.clone(), next.clone());
        if *next > first && !path.contains(next) && edges.contains_key(&edge) {
            path.push(edge.1);
            let found = closed(edges, knot, path, length);
            if found.is_some() {
                return found;
            }
            path.pop();
        }
    }
    None
}

fn within<'a>(workspace: &'a Workspace, member: &'a str) -> impl Iterator<Item = &'a Import> {
    let both = move |import: &&Import| {
        workspace.owner(&import.from) == member && workspace.owner(&import.to) == member
    };
    workspace.imports.iter().filter(both)
}

/// The outermost folders in which two folders differ; `None` when one lies in the other.
fn beside(from: &str, to: &str) -> Option<(String, String)> {
    let (from, to): (Vec<_>, Vec<_>) = (from.split('/').collect(), to.split('/').collect());
    let differs = from.iter().zip(&to).position(|(from, to)| from != to)?;
    Some((from[..=differs].join("/"), to[..=differs].join("/")))
}

type Edges = BTreeMap<(String, String), Vec<Import>>;

/// Groups of two or more of which each can be reached from each, with the imports among them.
fn circles(edges: &Edges) -> Vec<(Vec<String>, Vec<Import>)> {
    let mut left: BTreeSet<&str> = edges.keys().map(|(from, _)| from.as_str()).collect();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let reached = reached(edges, first);
        let group: Vec<String> = std::iter::once(first)
            .chain(reached.iter().copied().filter(|name| *name != first))
            .filter(|name| self::reached(edges, name).contains(first))
            .map(str::to_owned)
            .collect();
        if group.len() > 1 {
            let among = |(from, to): &(String, String)| group.contains(from) && group.contains(to);
            let imports =
                edges.iter().filter(|(ends, _)| among(ends)).flat_map(|(_, imports)| imports.clone());
            left.retain(|name| !group.iter().any(|other| other == name));
            found.push((group.clone(), imports.collect()));
        }
    }
    found
}

fn reached<'a>(edges: &'a Edges, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for (_, to) in edges.keys().filter(|(from, _)| from == name) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}
