//! Every route, byte for byte: `tests/cases/*.txt`. `UPDATE_EXPECT=1` rewrites what is expected.

use axum::body::Body;
use axum::http::Request;
use querier::Config;

use crate::world::{Record, World, escape, record};

/// Some records of two tenants, half of them in a segment, half in a head, one in both.
async fn world() -> World {
    let world = World::new();
    let old = [
        record("api", 50, "GET /users 200 <b>fast</b>").label("env", "prod"),
        record("api", 40, "GET /users 500 error: \"boom\"")
            .label("env", "prod")
            .with("trace_id", "4f2a"),
        record("web", 45, "level=info msg=hello status=200"),
        record("web", 20, "level=error msg=bye status=503"),
        record("api", 30, "other tenant").of("blue"),
        record(
            "nested",
            30,
            r#"{"app":"x","http":{"took":"1.5s","status code":200}}"#,
        )
        .of("json"),
    ];
    let new: [Record; 3] = [
        record("web", 20, "level=error msg=bye status=503"),
        record("api", 10, "GET /items 200").label("env", "prod"),
        record("batch", 5, "job 17 done\twith tab").label("env", "dev"),
    ];
    world.segment(&old).await;
    world.head(&new);
    world
}

#[tokio::test]
async fn answers_are_lokis_byte_for_byte() {
    let world = world().await;
    for file in ["loki", "plain", "errors", "delete"] {
        check(&world, file).await;
    }
}

async fn check(world: &World, file: &str) {
    let path = format!("{}/tests/cases/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let cases = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    for case in cases.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let mut lines = case.trim_start_matches('\n').lines();
        let mut comments = String::new();
        let mut asked = lines.next().unwrap();
        while asked.starts_with('#') {
            comments.push_str(asked);
            comments.push('\n');
            asked = lines.next().unwrap_or_default();
        }
        if asked.is_empty() {
            written.push_str(&format!("{comments}\n"));
            continue;
        }
        let answer = world.send(request(asked)).await;
        // Loki ends a JSON answer with a newline; the files show it without.
        let body = without_stats(answer.body.strip_suffix('\n').unwrap_or(&answer.body));
        let got = format!("{} {}\n{body}", answer.status, answer.kind);
        written.push_str(&format!("{comments}{asked}\n{got}\n\n"));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, format!("{}\n", written.trim_end())).unwrap();
    } else {
        assert_eq!(written.trim_end(), cases.trim_end(), "{file}");
    }
}

/// `GET path query={a="b"} limit=5 !Header: value`, parameters not yet escaped and separated by
/// ` & `.
fn request(asked: &str) -> Request<Body> {
    let (asked, header) = match asked.split_once(" !") {
        Some((asked, header)) => (asked, Some(header)),
        None => (asked, None),
    };
    let (method, rest) = asked.split_once(' ').unwrap();
    let (path, params) = rest.split_once(' ').unwrap_or((rest, ""));
    let params: Vec<String> = params
        .split(" & ")
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            format!("{}={}", escape(name), escape(value))
        })
        .collect();
    let params = params.join("&");
    let mut request = match method {
        "GET" | "PUT" | "DELETE" => Request::builder()
            .method(method)
            .uri(format!("{path}?{params}")),
        _ => Request::post(path).header("content-type", "application/x-www-form-urlencoded"),
    };
    if let Some((name, value)) = header.and_then(|header| header.split_once(": ")) {
        request = request.header(name, value);
    }
    let body = match method {
        "POST" => params,
        _ => String::new(),
    };
    request.body(Body::from(body)).unwrap()
}

/// Figures of the work change with the segment format: they have a test of their own.
fn without_stats(body: &str) -> String {
    match body.split_once(",\"stats\":{") {
        Some((before, _)) => format!("{before},\"stats\":{{..}}}}}}"),
        None => body.to_owned(),
    }
}

#[tokio::test]
async fn stats_say_what_was_read_and_where() {
    let world = world().await;
    let path = format!(
        "/loki/api/v1/query_range?query={}",
        escape("{app=~\"web|batch\"}")
    );
    let answer = world.get(&path).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let stats = &body["data"]["stats"];
    assert_eq!(stats["summary"]["totalEntriesReturned"], 3);
    assert_eq!(stats["summary"]["totalLinesProcessed"], 4);
    assert_eq!(stats["querier"]["store"]["chunk"]["totalDuplicates"], 1);
    assert_eq!(stats["querier"]["store"]["chunk"]["decompressedLines"], 2);
    assert_eq!(stats["ingester"]["store"]["chunk"]["headChunkLines"], 2);
    assert!(stats["querier"]["store"]["chunk"]["compressedBytes"].as_u64() > Some(0));
}

#[tokio::test]
async fn points_lie_at_multiples_of_the_step_where_that_is_configured() {
    for (query_align_steps, want) in [(true, [40, 60, 80].as_slice()), (false, &[50, 70])] {
        let world = World::with(Config {
            query_align_steps,
            ..Config::default()
        });
        let query = escape("vector(1)");
        let path = format!("/loki/api/v1/query_range?query={query}&start=50&end=75&step=20");
        let answer = world.get(&path).await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let points = body["data"]["result"][0]["values"].as_array().unwrap();
        let times: Vec<i64> = points.iter().map(|p| p[0].as_i64().unwrap()).collect();
        assert_eq!(times, want);
    }
}

#[tokio::test]
async fn queries_of_two_thousand_terms_are_answered() {
    let world = world().await;
    let sum = format!("vector(1){}", "+vector(1)".repeat(2_000));
    let answer = world.send(request(&format!("GET /loki/api/v1/query query={sum}")));
    let answer = answer.await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("\"2001\""), "{}", answer.body);
    let filter = format!(
        r#"{{app="web"}} | logfmt | status=1{} or status=503"#,
        " or status=1".repeat(2_000)
    );
    let asked = format!("GET /loki/api/v1/query_range query={filter}");
    let answer = world.send(request(&asked)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body.matches("msg=bye").count(), 1);
}

#[tokio::test]
async fn what_a_loki_refuses_by_default_is_refused_in_its_words() {
    let world = World::new();
    let variants = escape(" variants (count_over_time({a=\"b\"}[1m])) of ({a=\"b\"}[1m])");
    let disabled = "multi variant queries are disabled for this instance";
    let no_step = "zero or negative query resolution step widths are not accepted";
    for (path, want) in [
        (format!("query?query={variants}"), disabled),
        (format!("query_range?query={variants}"), disabled),
        (
            "query_range?query=%7Ba%3D%22b%22%7D&step=NaN".to_owned(),
            no_step,
        ),
    ] {
        let answer = world.get(&format!("/loki/api/v1/{path}")).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains(want), "{path}: {}", answer.body);
    }
}
