//! OTLP logs: protobuf and JSON requests, and the answers.
//!
//! How a record becomes one of ours, the same as in Loki 3:
//!
//! | OTLP | here |
//! |---|---|
//! | resource attributes in [`INDEXED_ATTRIBUTES`] | labels of the stream |
//! | other resource attributes, scope attributes, record attributes | structured metadata |
//! | `scope.name`, `.version`, `.droppedAttributesCount` | metadata `scope_name`, `scope_version`, `scope_dropped_attributes_count` |
//! | `timeUnixNano`, or if 0 `observedTimeUnixNano`, or if 0 the arrival | the time |
//! | `observedTimeUnixNano`, if it was not used for the time | metadata `observed_timestamp` |
//! | `severityNumber`, `severityText`, `flags`, `droppedAttributesCount`, `eventName` | metadata `severity_number`, ..., if not 0 or empty |
//! | `traceId`, `spanId` | metadata `trace_id`, `span_id` in lowercase hex; invalid ones count as absent |
//! | `body` | the line; lists, maps as JSON text, bytes as base64 |
//!
//! In names each run of `_` and of characters that a label name cannot have becomes one `_`, and a
//! leading digit gets `key_` in front. Attributes that are maps are flattened: `a: {b: 1}` becomes `a_b="1"`. When a
//! name occurs twice, the narrower one wins: record over scope over resource.

mod json;
mod mapping;
mod protobuf;
mod response;
mod value;

pub use json::decode_json;
pub use mapping::{is_plain_name, sanitize_name};
pub use protobuf::decode_protobuf;
pub use response::{PartialSuccess, RetryInfo, Status};

/// Resource attributes that become labels of the stream; all others are structured metadata.
pub const INDEXED_ATTRIBUTES: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];
