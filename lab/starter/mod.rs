//! The first files of a repository that tests its images with the lab.
//!
//! Everything here is plain data: [`files`] returns paths and texts, and the command writes them. The texts are
//! templates beside this file, with words in `{{…}}`.

use std::path::PathBuf;

use lab_model::Source;

/// What the files name.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The image of the nodes with the role compute.
    pub compute: Source,
    /// The image of the gateway.
    pub gateway: Source,
    /// The action of the lab, as a workflow names it: `OWNER/NAME@REF`.
    pub action: String,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarterFile {
    /// Relative to the directory of the repository.
    pub path: PathBuf,
    pub text: String,
    pub executable: bool,
}

/// A scenario of the lab that the repository gets a copy of, or a test of.
#[derive(Clone, Copy, Debug)]
pub struct StarterScenario<'a> {
    /// Number and name, e.g. `01-compute-only-cluster`.
    pub id: &'a str,
    pub text: &'a str,
    pub question: &'a str,
}

const PROJECT: &str = include_str!("templates/lab.yaml");
const WORKFLOW: &str = include_str!("templates/workflow.yml");
const ROLES: &str = include_str!("templates/ROLES.md");
const OWN_CHECKS: &str = include_str!("templates/own-checks.yaml");
const NODES_READY: &str = include_str!("templates/nodes-ready.sh");
const TEST: &str = include_str!("templates/test.sh");

/// Scenarios, a workflow, `lab.yaml`, and a page about roles.
pub fn files(starter: &Starter, scenarios: &[StarterScenario<'_>]) -> Vec<StarterFile> {
    let with = |text: &str, compute: &str, gateway: &str| {
        let text = text.replace("{{compute}}", compute).replace("{{gateway}}", gateway);
        text.replace("{{action}}", &starter.action)
    };
    let (compute, gateway) = (starter.compute.to_string(), starter.gateway.to_string());
    let in_yaml = |text: &str| with(text, &quoted(&compute), &quoted(&gateway));
    let mut files: Vec<_> = scenarios
        .iter()
        .map(|scenario| plain(format!("scenarios/{}.yaml", scenario.id), copy(scenario)))
        .collect();
    let names: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
    let own = "scenarios/own-checks.yaml";
    let names: Vec<_> =
        names.into_iter().chain([own.to_owned()]).map(|name| format!("            {name}")).collect();
    files.push(plain(own, OWN_CHECKS.to_owned()));
    files.push(StarterFile {
        executable: true,
        ..plain("scenarios/checks/nodes-ready.sh", NODES_READY.to_owned())
    });
    files.push(plain("lab.yaml", in_yaml(PROJECT)));
    let workflow = in_yaml(WORKFLOW).replace("{{scenarios}}", &names.join("\n"));
    files.push(plain(".github/workflows/cluster-formation.yml", workflow));
    files.push(plain("ROLES.md", with(ROLES, &compute, &gateway)));
    files
}

/// Numbered scripts, one for each scenario.
pub fn tests(scenarios: &[StarterScenario<'_>]) -> Vec<StarterFile> {
    let test = |scenario: &StarterScenario<'_>| StarterFile {
        path: format!("tests/cluster-formation/{}.sh", scenario.id).into(),
        text: TEST.replace("{{scenario}}", scenario.id).replace("{{question}}", scenario.question),
        executable: true,
    };
    scenarios.iter().map(test).collect()
}

/// A text as a YAML scalar: each JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn plain(path: impl Into<PathBuf>, text: String) -> StarterFile {
    StarterFile { path: path.into(), text, executable: false }
}

/// The scenario without the comments at its head, which are about the lab's own tree.
fn copy(scenario: &StarterScenario<'_>) -> String {
    let head = format!("# {} `lab run --dry-run FILE` prints its plan.\n", scenario.question);
    let body = scenario.text.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
    body.fold(head, |text, line| text + line + "\n")
}
