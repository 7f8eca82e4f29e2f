//! A hostile registry, in this process, under every call of the client.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response as Answer},
};
use lab_model::is_hidden;
use serde_json::json;

use super::{super::mirror::Mirror, *};
use crate::images::Reference;

/// A kind of lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    EndlessManifest,
    EndlessBlob,
    LongerBlob,
    OtherBlob,
    EmptyBlob,
    NegativeSize,
    GiganticSize,
    TokenWithNewline,
    EndlessToken,
    TokenOfTheWrongType,
    NoTokenService,
    TokenServiceOfAnotherScheme,
    Endless401,
    RedirectsForever,
    RedirectToAFile,
    NestedIndexes,
    NestedJson,
    EscapesInAnError,
    EndlessError,
    NoJson,
}

const LIES: [Lie; 20] = [
    Lie::EndlessManifest,
    Lie::EndlessBlob,
    Lie::LongerBlob,
    Lie::OtherBlob,
    Lie::EmptyBlob,
    Lie::NegativeSize,
    Lie::GiganticSize,
    Lie::TokenWithNewline,
    Lie::EndlessToken,
    Lie::TokenOfTheWrongType,
    Lie::NoTokenService,
    Lie::TokenServiceOfAnotherScheme,
    Lie::Endless401,
    Lie::RedirectsForever,
    Lie::RedirectToAFile,
    Lie::NestedIndexes,
    Lie::NestedJson,
    Lie::EscapesInAnError,
    Lie::EndlessError,
    Lie::NoJson,
];

/// The text that must not reach a terminal.
const ESCAPES: &str = "\x1b]0;owned\x07\n::error::owned\u{202e}";
/// The promised size of every blob.
const PROMISED: u64 = 1000;

#[derive(Clone)]
struct Hostile {
    lie: Lie,
    at: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Hostile {
    async fn start(lie: Lie) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
        let own = Self { lie, at: listener.local_addr().expect("address"), sent: Arc::default() };
        let router = Router::new().fallback(answer).with_state(own.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        own
    }

    /// A body without an end, whose bytes are counted.
    fn endless(&self) -> Body {
        let sent = Arc::clone(&self.sent);
        let chunk = Bytes::from(vec![b' '; 64 << 10]);
        Body::from_stream(futures::stream::repeat_with(move || {
            sent.fetch_add(64 << 10, Ordering::Relaxed);
            Ok::<_, std::io::Error>(chunk.clone())
        }))
    }

    fn manifest(&self, path: &str) -> Answer {
        let blob = Digest::of_bytes(&content());
        let size = match self.lie {
            Lie::NegativeSize => json!(-5),
            Lie::GiganticSize => json!(i64::MAX),
            _ => json!(PROMISED),
        };
        let part =
            json!({ "mediaType": "application/octet-stream", "digest": blob.to_string(), "size": size });
        let image = json!({ "schemaVersion": 2, "mediaType": super::super::MANIFEST_TYPE, "config": part,
            "layers": [part] });
        match self.lie {
            Lie::NestedIndexes => {
                // Each level is asked for by its digest.
                let mut levels = vec![image.to_string()];
                for _ in 0..8 {
                    let below = levels.last().map(|level| Digest::of_bytes(level.as_bytes())).expect("level");
                    let entry = json!({ "mediaType": super::super::INDEX_TYPE, "digest": below.to_string(), "size": 9 });
                    levels.push(
                        json!({ "schemaVersion": 2, "mediaType": super::super::INDEX_TYPE,
                        "manifests": [entry] })
                        .to_string(),
                    );
                }
                let wanted =
                    |level: &&String| path.ends_with(&Digest::of_bytes(level.as_bytes()).to_string());
                let level = levels.iter().find(wanted).or(levels.last()).cloned();
                level.unwrap_or_default().into_response()
            }
            Lie::NestedJson => "[".repeat(1 << 20).into_response(),
            _ => image.to_string().into_response(),
        }
    }
}

/// The content of every blob, of the promised size.
fn content() -> Vec<u8> {
    vec![7; 1000]
}

async fn answer(State(own): State<Hostile>, request: Request) -> Answer {
    let path = request.uri().path().to_owned();
    let authorized = request.headers().contains_key(header::AUTHORIZATION);
    let unauthorized = |realm: String| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    };
    let to = |place: String| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response();
    let asks_for_a_token =
        [Lie::TokenWithNewline, Lie::EndlessToken, Lie::TokenOfTheWrongType, Lie::Endless401];
    if path == "/token" {
        return match own.lie {
            Lie::TokenWithNewline => json!({ "token": "a\r\nX-Injected: b" }).to_string().into_response(),
            Lie::EndlessToken => own.endless().into_response(),
            Lie::TokenOfTheWrongType => json!({ "token": { "a": [1] } }).to_string().into_response(),
            _ => json!({ "token": "fine" }).to_string().into_response(),
        };
    }
    match own.lie {
        lie if asks_for_a_token.contains(&lie) && (!authorized || lie == Lie::Endless401) => {
            unauthorized(format!("http://{}/token", own.at))
        }
        Lie::NoTokenService => StatusCode::UNAUTHORIZED.into_response(),
        Lie::TokenServiceOfAnotherScheme => unauthorized("file:///etc/passwd".into()),
        Lie::RedirectsForever => to(format!("http://{}{path}?again", own.at)),
        Lie::RedirectToAFile => to("file:///etc/passwd".into()),
        Lie::EscapesInAnError => {
            let error = json!({ "errors": [{ "code": ESCAPES, "message": ESCAPES.repeat(300) }] });
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
        Lie::EndlessError => (StatusCode::INTERNAL_SERVER_ERROR, own.endless()).into_response(),
        Lie::NoJson => ESCAPES.into_response(),
        Lie::EndlessManifest => own.endless().into_response(),
        _ if path.contains("/manifests/") => own.manifest(&path),
        Lie::EndlessBlob => own.endless().into_response(),
        Lie::LongerBlob => [content(), content()].concat().into_response(),
        Lie::OtherBlob => vec![8; 1000].into_response(),
        Lie::EmptyBlob => StatusCode::OK.into_response(),
        _ => content().into_response(),
    }
}

fn bytes_below(directory: &std::path::Path) -> u64 {
    let files = walkdir::WalkDir::new(directory).into_iter().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

#[tokio::test]
async fn a_registry_that_lies_in_any_answer_only_makes_the_fetch_fail() {
    for lie in LIES {
        let hostile = Hostile::start(lie).await;
        let directory = tempfile::tempdir().expect("tempdir");
        let reference: Reference = format!("{}/app:v1", hostile.at).parse().expect("reference");
        let begun = Instant::now();
        let error = Mirror::new(directory.path()).pull(&reference).await.expect_err(&format!("{lie:?}"));
        let text = error.to_string();
        assert!(begun.elapsed() < Duration::from_secs(20), "{lie:?} took {:?}", begun.elapsed());
        assert!(!text.contains(is_hidden), "{lie:?}: {text:?}");
        assert!(text.len() < 2000, "{lie:?}: {} bytes", text.len());
        let sent = hostile.sent.load(Ordering::Relaxed);
        // The limit of a manifest, and what the sockets buffer.
        assert!(sent < (4 << 20) + (16 << 20), "{lie:?}: {sent} bytes were taken");
        let kept = bytes_below(directory.path());
        // A manifest has no promised size: it is kept as it is, within its limit.
        let promised = if lie == Lie::NestedJson { 1 << 20 } else { PROMISED + 4096 };
        assert!(kept < 2 * promised, "{lie:?}: {kept} bytes were kept");
    }
}

#[tokio::test]
async fn an_honest_registry_with_a_token_service_is_no_problem() {
    // The control of the test above: the same server without a lie.
    let hostile = Hostile::start(Lie::Endless401).await;
    let honest = Hostile { lie: Lie::LongerBlob, ..hostile };
    let path = honest.manifest("").into_body();
    let manifest = axum::body::to_bytes(path, 1 << 20).await.expect("manifest");
    let router = Router::new().fallback(move |request: Request| {
        let manifest = manifest.clone();
        async move {
            let path = request.uri().path();
            if path == "/token" {
                return json!({ "access_token": "fine" }).to_string().into_response();
            }
            if request.headers().get(header::AUTHORIZATION).is_none_or(|given| given != "Bearer fine") {
                let host = request.headers()[header::HOST].to_str().expect("host").to_owned();
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"x\"");
                return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
            }
            if path.contains("/manifests/") { manifest.into_response() } else { content().into_response() }
        }
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
    let at = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let directory = tempfile::tempdir().expect("tempdir");
    let reference: Reference = format!("{at}/app:v1").parse().expect("reference");
    Mirror::new(directory.path()).pull(&reference).await.expect("fetched");
}

#[tokio::test]
async fn a_registry_that_drips_is_not_waited_for_without_limit() {
    let router = Router::new().fallback(|| async {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        Body::from_stream(drops)
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
    let at = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut exchange = Exchange::new(&at.to_string(), Login::Anonymous, Reach::Any).expect("client");
    exchange.small = Duration::from_millis(400);
    let error = exchange.manifest("app", "v1", "*/*").await.expect_err("slow");
    assert!(matches!(&error, ExchangeError::Unreachable(text) if text.contains("whole answer")), "{error:?}");
    let directory = tempfile::tempdir().expect("tempdir");
    let mut out = tokio::fs::File::create(directory.path().join("blob")).await.expect("file");
    let digest = Digest::of_bytes(b"");
    let blob = exchange.blob("app", &digest, Some(PROMISED), &mut out).await.expect_err("slow");
    assert!(matches!(blob, ExchangeError::Unreachable(_)), "{blob:?}");
}

#[tokio::test]
async fn on_behalf_of_a_guest_only_the_public_internet_is_asked() {
    for host in ["127.0.0.1:1", "localhost:1", "10.0.0.1", "metadata.google.internal", "router"] {
        let exchange = Exchange::new(host, Login::Anonymous, Reach::Public).expect("client");
        let error = exchange.manifest("app", "v1", "*/*").await.expect_err(host);
        assert!(
            matches!(&error, ExchangeError::Refused(text) if text.contains("is not on the public internet")),
            "{host}: {error:?}"
        );
    }
    let resolved = PublicAddresses.resolve("localhost".parse().expect("name")).await;
    assert!(resolved.is_err(), "a public name may have a private address");
}

#[test]
fn challenges_are_read_and_oddities_are_not() {
    let bearer = |realm: &str, service: &str| {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.to_owned() })
    };
    for (header, expected) in [
        (r#"Bearer realm="https://a/token",service="a",scope="x:y,z""#, bearer("https://a/token", "a")),
        (r#"bearer service=a, realm="https://a/t""#, bearer("https://a/t", "a")),
        ("Basic realm=\"x\"", Some(Challenge::Basic)),
        ("Bearer service=\"a\"", None),
        (r#"Bearer realm="unclosed"#, None),
        ("Negotiate", None),
        ("", None),
    ] {
        assert_eq!(Challenge::parse(header), expected, "{header}");
    }
}

proptest::proptest! {
    #[test]
    fn any_challenge_is_read_without_a_panic(header in "[ -~]{0,80}|Bearer ([a-z]{1,7}=\"?[ -~]{0,9}\"?,?){0,6}") {
        let _ = Challenge::parse(&header);
    }
}
