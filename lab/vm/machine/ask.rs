//! A short QMP session with a QEMU binary on its standard streams.
//!
//! One process returns the version, accelerators, network back ends and migration capabilities
//! together (about 0.1 s). `--version`, `-accel help` and similar options would need one process
//! each, and their output formats are for people.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::binary::QemuError;

/// The maximum time until QEMU answers; 0.1 s on an idle host.
const PATIENCE: Duration = Duration::from_secs(30);

/// QEMU's raw answers.
pub(super) struct Answers {
    pub version: Value,
    pub package: String,
    pub accelerators: Vec<String>,
    pub netdevs: Vec<String>,
    pub migration_capabilities: Vec<String>,
    pub sandbox: bool,
}

/// Starts `qemu` without a machine, sends the queries, and ends the process.
pub(super) async fn ask(qemu: &Path) -> Result<Answers, QemuError> {
    let unusable = |seen: String| QemuError::Unusable { path: qemu.to_owned(), seen };
    let mut child = Command::new(qemu)
        .args(["-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| QemuError::Start { path: qemu.to_owned(), source })?;

    let questions = [
        json!({"execute": "qmp_capabilities"}),
        json!({"execute": "query-version", "id": "version"}),
        json!({"execute": "qom-list-types", "arguments": {"implements": "accel"}, "id": "accelerators"}),
        json!({"execute": "query-command-line-options", "arguments": {"option": "sandbox"}, "id": "sandbox"}),
        json!({"execute": "query-qmp-schema", "id": "schema"}),
    ];
    let conversation = async {
        let mut replies: Vec<Value> = Vec::new();
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Ok(replies);
        };
        for question in &questions {
            // A program that ends early is reported below by its missing answers.
            let _ = stdin.write_all(format!("{question}\n").as_bytes()).await;
        }
        // QEMU answers in order, so the last answer ends the session. The lab does not send quit
        // earlier, because QEMU would quit before it has written the large schema.
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            let reply: Value = serde_json::from_str(&line).unwrap_or_default();
            let last = reply["id"] == "schema";
            replies.push(reply);
            if last {
                break;
            }
        }
        Ok::<_, std::io::Error>(replies)
    };
    let replies = tokio::time::timeout(PATIENCE, conversation)
        .await
        .map_err(|_| unusable(format!("no answer over QMP within {} s", PATIENCE.as_secs())))?
        .map_err(|e| unusable(e.to_string()))?;
    // QEMU has no state to save. An error means that the program has already ended, which is fine.
    let _ = child.start_kill();
    let output = child.wait_with_output().await.map_err(|e| unusable(e.to_string()))?;

    let reply = |id: &str| {
        replies.iter().find(|reply| reply["id"] == id).map(|reply| reply["return"].clone()).ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            unusable(format!("{}, no answer to {id} over QMP: {}", output.status, stderr.trim()))
        })
    };
    let version = reply("version")?;
    let schema = reply("schema")?;
    // A QEMU without seccomp answers that it does not know the option.
    let sandbox = reply("sandbox")?.as_array().is_some_and(|options| !options.is_empty());
    Ok(Answers {
        package: version["package"].as_str().unwrap_or_default().trim().to_owned(),
        version: version["qemu"].clone(),
        accelerators: strings(&reply("accelerators")?, |item| item["name"].as_str()),
        netdevs: enumeration(&schema, &["user", "hubport"]),
        migration_capabilities: enumeration(&schema, &["xbzrle", "events"]),
        sandbox,
    })
}

/// The values of the schema enumeration that contains all of `landmarks`. The schema hides the names
/// of its types, so this function identifies an enumeration by values that it has always contained.
fn enumeration(schema: &Value, landmarks: &[&str]) -> Vec<String> {
    let entities = schema.as_array().map(Vec::as_slice).unwrap_or_default();
    entities
        .iter()
        .filter(|entity| entity["meta-type"] == "enum")
        .map(|entity| strings(&entity["values"], Value::as_str))
        .find(|values| landmarks.iter().all(|landmark| values.iter().any(|value| value == landmark)))
        .unwrap_or_default()
}

fn strings(list: &Value, text: impl Fn(&Value) -> Option<&str>) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(text).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enumeration_is_found_by_its_landmarks() {
        let schema = json!([
            {"meta-type": "object", "name": "1"},
            {"meta-type": "enum", "values": ["user", "other"]},
            {"meta-type": "enum", "values": ["none", "user", "stream", "hubport"]},
        ]);
        assert_eq!(enumeration(&schema, &["user", "hubport"]), ["none", "user", "stream", "hubport"]);
        assert!(enumeration(&schema, &["xbzrle"]).is_empty());
    }
}
