//! Live views over real sockets on 127.0.0.1.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use model::LogBatch;
use querier::Config;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::world::{NOW, SECOND, World, batches, escape, record};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn serve(world: &World) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn connect(address: SocketAddr, path: &str) -> Socket {
    let (socket, _) = connect_async(format!("ws://{address}{path}"))
        .await
        .unwrap();
    socket
}

/// The next text; pings are passed over.
async fn text(socket: &mut Socket) -> String {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn arrive(world: &World, batch: Vec<Arc<LogBatch>>) {
    for batch in batch {
        let id = model::BatchId(0);
        world.search.tail.send(rpc::HeldBatch { id, batch });
    }
}

#[tokio::test]
async fn a_tail_shows_history_then_what_arrives_and_nothing_twice() {
    let world = World::new();
    let old = [
        record("a", 20, "one"),
        record("a", 10, "two"),
        record("b", 5, "noise"),
    ];
    world.segment(&old[..1]).await;
    world.head(&old[1..]);
    let address = serve(&world).await;
    let path = format!("/loki/api/v1/tail?query={}", escape("{app=\"a\"} |~ \"o\""));
    let mut socket = connect(address, &path).await;
    assert_eq!(
        text(&mut socket).await,
        format!(
            r#"{{"streams":[{{"stream":{{"app":"a","detected_level":"unknown"}},"values":[["{}","one"]]}},{{"stream":{{"app":"a","detected_level":"unknown"}},"values":[["{}","two"]]}}]}}"#,
            NOW - 20 * SECOND,
            NOW - 10 * SECOND
        )
    );
    arrive(
        &world,
        batches(&[
            old[1].clone(),
            record("b", 1, "noise"),
            record("a", 1, "xyz"),
        ]),
    );
    arrive(&world, batches(&[record("a", 0, "more").with("k", "v")]));
    assert_eq!(
        text(&mut socket).await,
        format!(
            r#"{{"streams":[{{"stream":{{"app":"a","detected_level":"unknown","k":"v"}},"values":[["{NOW}","more"]]}}]}}"#
        )
    );
}

#[tokio::test]
async fn a_tail_may_begin_without_history() {
    let world = World::new();
    world.head(&[record("a", 10, "old")]);
    let address = serve(&world).await;
    let query = escape("{app=\"a\"}");
    let path = format!("/loki/api/v1/tail?query={query}&start={NOW}");
    let mut socket = connect(address, &path).await;
    // The view listens before the socket is answered or soon after: send until it does.
    while world.search.tail.receivers() == 0 {
        tokio::task::yield_now().await;
    }
    arrive(&world, batches(&[record("a", 0, "new")]));
    assert!(text(&mut socket).await.contains("\"new\""));
}

#[tokio::test]
async fn a_tail_request_that_is_wrong_is_refused_before_the_upgrade() {
    let world = World::with(Config {
        tails_max: 1,
        ..Config::default()
    });
    let address = serve(&world).await;
    for (query, status) in [
        ("{app=", 400),
        ("{app=\"a\"}&delay_for=6", 400),
        ("{app=\"a\"}&delay_for=-1", 400),
        ("{app=\"a\"}&since=x", 400),
        ("{app=\"a\"}&end=x", 400),
        ("rate({app=\"a\"}[1m])&limit=x", 400),
        ("{app=\"a\"} | sort by (x)", 400),
    ] {
        let (query, rest) = query.split_once('&').unwrap_or((query, ""));
        let url = format!(
            "ws://{address}/loki/api/v1/tail?query={}&{rest}",
            escape(query)
        );
        match connect_async(url).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), status, "{query}");
            }
            other => panic!("{query}: {other:?}"),
        }
    }
    let path = format!("/loki/api/v1/tail?query={}", escape("{app=\"a\"}"));
    let _first = connect(address, &path).await;
    let mut second = connect(address, &path).await;
    let Message::Close(Some(close)) = second.next().await.unwrap().unwrap() else {
        panic!("the second view was not closed");
    };
    assert_eq!(u16::from(close.code), 1011);
    let reason = "max concurrent tail requests limit exceeded, count > limit (2 > 1)";
    assert_eq!(&*close.reason, reason);
}

#[tokio::test]
async fn a_tail_of_numbers_or_of_the_future_is_closed_with_the_reason() {
    let world = World::new();
    let address = serve(&world).await;
    let lines = escape("{app=\"a\"}");
    let late = "rpc error: code = Code(400) desc = this data is no longer available, it is past now - \
                max_query_lookback (0s)";
    for (query, reason) in [
        (
            escape("rate({app=\"a\"}[1m])"),
            "only log selector is supported",
        ),
        (format!("{lines}&start={}", NOW + 1), late),
    ] {
        let mut socket = connect(address, &format!("/loki/api/v1/tail?query={query}")).await;
        let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else {
            panic!("{query}: the view was not closed");
        };
        assert_eq!((u16::from(close.code), &*close.reason), (1011, reason));
    }
}

#[tokio::test]
async fn the_old_tail_has_the_old_form() {
    let world = World::new();
    world.head(&[record("a", 10, "old <x>"), record("a", 9, "other")]);
    let address = serve(&world).await;
    let query = escape("{app=\"a\"}");
    let mut socket = connect(
        address,
        &format!("/api/prom/tail?query={query}&regexp=x%3E"),
    )
    .await;
    let labels = r#"{app=\"a\", detected_level=\"unknown\"}"#;
    let want = format!(
        r#"{{"streams":[{{"labels":"{labels}","entries":[{{"ts":"2023-11-14T22:13:10Z","line":"old \u003cx\u003e"}}]}}],"dropped_entries":null}}"#
    );
    assert_eq!(text(&mut socket).await, want);
}

#[tokio::test]
async fn a_stream_changes_its_filter_on_the_open_socket() {
    let world = World::new();
    let address = serve(&world).await;
    let path = format!("/stream?query={}", escape("{app=\"one\"}"));
    let mut socket = connect(address, &path).await;
    let in_force = r#"{"type":"filter","query":"{app=\"one\"}"}"#;
    assert_eq!(text(&mut socket).await, in_force);
    arrive(
        &world,
        batches(&[record("one", 0, "first"), record("two", 0, "no")]),
    );
    let entry = r#"{"type":"entry","ts":"2023-11-14T22:13:20Z","labels":{"app":"one","detected_level":"unknown"},"line":"first"}"#;
    assert_eq!(text(&mut socket).await, entry);

    let change = r#"{"type":"filter","labels":{"app":"two"}}"#;
    socket.send(Message::text(change)).await.unwrap();
    let in_force = r#"{"type":"filter","query":"{app=\"two\"}"}"#;
    assert_eq!(text(&mut socket).await, in_force);
    arrive(
        &world,
        batches(&[record("one", 0, "no"), record("two", 0, "second")]),
    );
    assert!(text(&mut socket).await.contains("\"line\":\"second\""));

    for wrong in [
        "x",
        "{}",
        r#"{"type":"filter"}"#,
        r#"{"type":"filter","labels":{"a-b":"c"}}"#,
    ] {
        socket.send(Message::text(wrong)).await.unwrap();
        let answer = text(&mut socket).await;
        assert!(
            answer.starts_with(r#"{"type":"error","message":""#),
            "{answer}"
        );
    }
    arrive(&world, batches(&[record("two", 0, "third")]));
    assert!(text(&mut socket).await.contains("\"line\":\"third\""));
}

#[tokio::test]
async fn a_stream_without_a_filter_shows_everything_of_the_tenant() {
    let world = World::new();
    let address = serve(&world).await;
    let mut socket = connect(address, "/stream").await;
    assert_eq!(text(&mut socket).await, r#"{"type":"filter","query":"{}"}"#);
    arrive(
        &world,
        batches(&[record("a", 0, "foreign").of("blue"), record("z", 0, "own")]),
    );
    assert!(text(&mut socket).await.contains("\"line\":\"own\""));
}

#[tokio::test]
async fn a_tail_shows_no_deleted_lines_that_arrive_late_or_lie_in_the_history() {
    let world = World::new();
    world.head(&[record("a", 20, "old secret"), record("a", 10, "old")]);
    let request = rpc::DeleteRequest {
        tenant: model::TenantId::default(),
        query: "{app=\"a\"} |= \"secret\"".into(),
        range: model::TimeRange::new(NOW - 100 * SECOND, NOW),
        created: NOW,
    };
    let command = rpc::Command::RequestDelete(request);
    rpc::MetaApi::propose(&*world.meta, command).await.unwrap();
    let address = serve(&world).await;
    let path = format!("/loki/api/v1/tail?query={}", escape("{app=\"a\"}"));
    let mut socket = connect(address, &path).await;
    let history = text(&mut socket).await;
    assert!(
        history.contains("\"old\"") && !history.contains("secret"),
        "{history}"
    );
    let late = record("a", 5, "late secret");
    arrive(&world, batches(&[late, record("a", 0, "new secret")]));
    let arrived = text(&mut socket).await;
    assert!(
        arrived.contains("new secret") && !arrived.contains("late secret"),
        "{arrived}"
    );
}
