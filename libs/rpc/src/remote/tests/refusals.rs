//! Goal: calls that end early or are refused say why, and leave nothing at work. Method: a server on loopback.

use super::*;

#[tokio::test]
async fn a_port_that_closes_ends_the_streams_that_nothing_else_ends() {
    let fake = Fake::new();
    let ports = Arc::new(Ports::default());
    ports.set_ingester(&fake);
    ports.set_meta(Arc::clone(&fake) as Arc<dyn MetaPeerApi>);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(async move {
        let end = async {
            let _ = ended.await;
        };
        serve(listener, ports, &RemoteConfig::default(), end).await
    });
    let remote = Remote::new(RemoteConfig::default()).unwrap();
    let mut changes = remote.meta(&address).watch(0).await.unwrap();
    assert_eq!(changes.next().await, Some(Ok(Bytes::from("0"))));
    let mut tail = remote.search(&address).tail();
    while fake.tail.receivers() == 0 {
        tokio::task::yield_now().await;
    }
    end.send(()).unwrap();
    assert_eq!(changes.next().await, None);
    assert!(matches!(tail.recv().await, Err(TailError::Ended)));
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_work_at_the_other_side() {
    let (fake, remote, address) = connected(RemoteConfig::default()).await;
    let node = remote.ingest(&address);
    let flush = tokio::spawn(async move { node.flush().await });
    fake.began.notified().await;
    assert_eq!(fake.flushing.load(Ordering::SeqCst), 1);
    flush.abort();
    fake.began.notified().await;
    assert_eq!(fake.flushing.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_time_limit_of_a_call_ends_it_on_both_sides() {
    let config = RemoteConfig {
        call_timeout: Duration::from_millis(50),
        ..RemoteConfig::default()
    };
    let (fake, remote, address) = connected(config).await;
    let error = remote.ingest(&address).flush().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&address) && text.contains("did not answer"),
        "{text}"
    );
    assert_eq!(error.kind(), model::Kind::Unavailable);
    while fake.flushing.load(Ordering::SeqCst) > 0 {
        fake.began.notified().await;
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_unavailable_and_named() {
    let remote = Remote::new(RemoteConfig::default()).unwrap();
    let refused = remote.ingest("127.0.0.1:1").ingest(vec![request(1)]).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.starts_with("node at 127.0.0.1:1: "), "{text}");
    assert!(text.contains("refused"), "{text}");
    let nonsense = remote.ingest("no address").flush().await.unwrap_err();
    assert_eq!(nonsense.kind(), model::Kind::Invalid);
}

#[tokio::test]
async fn what_has_not_started_says_so() {
    let config = RemoteConfig::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = Arc::new(Ports::default());
    tokio::spawn(async move {
        serve(
            listener,
            ports,
            &RemoteConfig::default(),
            std::future::pending(),
        )
        .await
    });
    let remote = Remote::new(config).unwrap();
    let text = remote.ingest(&address).flush().await.unwrap_err();
    assert!(text.to_string().contains("has not started"), "{text}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_the_reason() {
    let small = RemoteConfig {
        message_bytes_max: 1000,
        ..RemoteConfig::default()
    };
    let fake = Fake::new();
    let address = serve_fake(&fake, &small).await;
    let remote = Remote::new(RemoteConfig::default()).unwrap();
    let mut large = request(1);
    large.batch = held(1, 100).batch;
    let refused = remote.ingest(&address).ingest(vec![large]).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("too large") && text.contains("1000"),
        "{text}"
    );
    assert!(fake.ingested.lock().is_empty());
}

#[tokio::test]
async fn another_format_is_refused_by_name() {
    let fake = Fake::new();
    let address = serve_fake(&fake, &RemoteConfig::default()).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(Bytes::new());
    request.metadata_mut().insert(FORMAT_HEADER, 99.into());
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(Method::Flush.path());
    let refused = grpc.unary(request, path, RawCodec).await.unwrap_err();
    let text = refused.message();
    assert!(
        text.contains(&format!("format {FORMAT}")) && text.contains("speaks 99"),
        "{text}"
    );
}
