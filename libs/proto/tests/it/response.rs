//! Answers, read back by prost and by a JSON parser.

use prost::Message;
use proto::otlp::{PartialSuccess, RetryInfo, Status};

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Retry {
    #[prost(message, optional, tag = "1")]
    delay: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[test]
fn full_success_is_the_empty_message() {
    let full = PartialSuccess::default();
    assert_eq!(full.to_protobuf(), b"");
    assert_eq!(full.to_json(), "{}");
}

#[test]
fn partial_success_says_how_many_and_why() {
    let partial = PartialSuccess {
        rejected_records: 300,
        message: "line \"1\"".into(),
    };
    let read = Response::decode(&*partial.to_protobuf()).unwrap();
    let read = read.partial_success.unwrap();
    assert_eq!((read.rejected, &*read.message), (300, "line \"1\""));
    assert_eq!(
        partial.to_json(),
        r#"{"partialSuccess":{"rejectedLogRecords":"300","errorMessage":"line \"1\""}}"#
    );
}

#[test]
fn a_status_says_when_to_try_again() {
    let status = Status {
        code: 8,
        message: "full".into(),
        retry: Some(RetryInfo { delay_seconds: 200 }),
    };
    let read = RpcStatus::decode(&*status.to_protobuf()).unwrap();
    assert_eq!((read.code, &*read.message), (8, "full"));
    assert_eq!(
        read.details[0].type_url,
        "type.googleapis.com/google.rpc.RetryInfo"
    );
    let retry = Retry::decode(&*read.details[0].value).unwrap();
    assert_eq!(retry.delay.unwrap().seconds, 200);
    assert_eq!(
        status.to_json(),
        r#"{"code":8,"message":"full","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"200s"}]}"#
    );
    let plain = Status {
        code: 3,
        message: "bad".into(),
        retry: None,
    };
    assert_eq!(plain.to_json(), r#"{"code":3,"message":"bad"}"#);
    assert!(
        RpcStatus::decode(&*plain.to_protobuf())
            .unwrap()
            .details
            .is_empty()
    );
}
