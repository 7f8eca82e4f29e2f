//! Seeds of what programs ask and answer: requests to the registry, the tailnet's JSON, recordings.

const REQUEST: &str = "coredns/coredns/manifests/v1.12.4\nbytes=0-99\n";
const TAGS: &str = "a/b__c/tags/list\nbytes=-5,7-\n";
const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:@","size":7,
    "annotations":{"org.opencontainers.image.ref.name":"registry.k8s.io/pause:3.10"}}]}"#;
const MANIFEST: &str = r#"{"artifactType":"t","config":{"mediaType":"c"},"subject":{"digest":"sha256:@"},"annotations":{"a":"b"}}"#;
const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const STATUS: &str = r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.2"],"Health":null,"Self":{"Addrs":["192.0.2.1:41641"]},
    "Peer":{"nodekey:0":{"HostName":"gateway","TailscaleIPs":["100.64.0.1"],"AllowedIPs":["10.96.0.0/12"],"Online":true,"Relay":"lab"}}}"#;
const PONG: &str =
    r#"{"NodeName":"gateway","LatencySeconds":0.002,"Endpoint":"192.0.2.1:41641","DERPRegionCode":"lab"}"#;
const NODES: &str = r#"[{"id":1,"name":"gateway","ip_addresses":["100.64.0.1"],"online":true,"forced_tags":["tag:gateway"],
    "available_routes":["10.96.0.0/12"]}]"#;
const LOG: &str =
    "2026/11/21 13:30:30 Start\nboot: 2026/11/21 13:30:31 failed to auth tailscale: exit status 1\n";
const NODE_TEXT: &str = "token: abc\n  key: |\n    line\nTS_AUTHKEY=tskey-auth-1 \"--token x\" Bearer y,\n\
    -----BEGIN EC PRIVATE KEY-----\nxx\n-----END EC PRIVATE KEY-----\n";

/// Target, name and content of each seed.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let digest = |text: &str| text.replace('@', DIGEST);
    let of = |target, name: &str, text: String| (target, name.to_owned(), text.into_bytes());
    vec![
        of("registry", "manifest", REQUEST.into()),
        of("registry", "tags", TAGS.into()),
        of("registry", "blob", digest("pause/blobs/sha256:@\nbytes=5-\n")),
        of("registry", "referrers", digest("pause/referrers/sha256:@\nbytes=9-5\n")),
        of("mirror", "one", digest(&format!("{INDEX}\0{MANIFEST}"))),
        of("tailnet", "status", STATUS.into()),
        of("tailnet", "pong", PONG.into()),
        of("tailnet", "nodes", NODES.into()),
        of("tailnet", "log", LOG.into()),
        of("redact", "node", NODE_TEXT.into()),
        of("recording", "run", recording(0, "", true)),
        of("recording", "shards", format!("{}\0{}", shard(1, true), shard(2, false))),
    ]
}

fn shard(number: u32, ended: bool) -> String {
    let shard = format!(r#","shard":{{"number":"{number}/2","of_scenarios":["compute","mixed"]}}"#);
    recording(number, &shard, ended)
}

fn recording(wall: u32, shard: &str, ended: bool) -> String {
    let start = format!(
        r#"{{"seq":0,"t":0.5,"event":"run-started","run":"r{wall}","title":"t","wall":"2026-11-21T13:30:0{wall}Z","format":1{shard}}}"#
    );
    let name = if wall == 2 { "mixed" } else { "compute" };
    let mut lines = vec![
        start,
        r#"{"seq":1,"t":1,"event":"note","subject":"cluster","text":"x"}"#.to_owned(),
        format!(r#"{{"seq":2,"t":2,"event":"scenario-started","scenario":"{name}","question":"?"}}"#),
        r#"{"seq":3,"t":3,"event":"host-measured","accelerator":"tcg","qemu":"10.0","speed_factor":1.5}"#.to_owned(),
        r#"{"seq":4,"t":4,"event":"step-started","subject":{"node":"cp-1"},"step":"boot"}"#.to_owned(),
        r#"{"seq":5,"t":9,"event":"step-finished","subject":{"node":"cp-1"},"step":"maintenance","outcome":"passed"}"#
            .to_owned(),
        r#"{"seq":6,"t":19,"event":"step-finished","subject":{"node":"cp-1"},"step":"kubernetes-api","outcome":"passed"}"#
            .to_owned(),
        format!(
            r#"{{"seq":7,"t":20,"event":"scenario-finished","scenario":"{name}","outcome":{{"failed":{{"cause":"c"}}}}}}"#
        ),
    ];
    if ended {
        let end = r#"{"seq":8,"t":21,"event":"run-finished","outcome":{"failed":{"cause":"compute: c"}}}"#;
        lines.push(end.to_owned());
    }
    lines.join("\n") + "\n"
}
