//! Alerts as Alertmanagers take them, samples as Prometheus' remote write takes them.

use std::time::Duration;

use bytes::Bytes;
use model::{NANOS_PER_MILLI, TenantId, Timestamp};
use prost::Message;
use serde::Serialize;

use super::decide::{Notice, Written};
use super::group::Texts;
use super::outbox::Post;

/// Most alerts of one request.
const ALERTS_PER_POST: usize = 64;
/// Most samples of one request.
const SAMPLES_PER_POST: usize = 2000;
/// Samples say when they were taken.
const SAMPLES_FRESH_FOR: Duration = Duration::from_secs(3600);
const TENANT_HEADER: &str = "X-Scope-OrgID";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    labels: &'a Texts,
    annotations: &'a Texts,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

/// Requests for `POST /api/v2/alerts`.
pub(crate) fn alerts(
    tenant: &TenantId,
    notices: &[Notice],
    external_url: &str,
    fresh_for: Duration,
) -> Vec<Post> {
    let body = |notice: &'_ Notice| {
        serde_json::to_value(AlertBody {
            labels: &notice.labels,
            annotations: &notice.annotations,
            starts_at: rfc3339(notice.starts_at),
            ends_at: rfc3339(notice.ends_at),
            generator_url: generator_url(external_url, &notice.expr),
        })
    };
    let posts = notices.chunks(ALERTS_PER_POST).map(|notices| {
        let bodies: Result<Vec<_>, _> = notices.iter().map(body).collect();
        // Texts are always JSON.
        let body = bodies.and_then(|bodies| serde_json::to_vec(&bodies));
        Post {
            headers: vec![
                ("Content-Type", "application/json".to_owned()),
                (TENANT_HEADER, tenant.to_string()),
            ],
            body: body.unwrap_or_default().into(),
            items: notices.len() as u64,
            fresh_for,
        }
    });
    posts.collect()
}

/// To the millisecond.
fn rfc3339(at: Timestamp) -> String {
    let millis = at.div_euclid(NANOS_PER_MILLI);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => jiff::Timestamp::MAX.to_string(),
    }
}

/// Where Grafana shows the query.
fn generator_url(external_url: &str, expr: &str) -> String {
    let left = serde_json::json!({"queries": [{"expr": expr, "queryType": "range"}]});
    format!("{external_url}/explore?left={}", escaped(&left.to_string()))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    at: i64,
}

/// Requests of remote write 1.0. Labels are in order of name, as it wants them.
pub(crate) fn samples(tenant: &TenantId, written: &[Written]) -> Vec<Post> {
    let posts = written.chunks(SAMPLES_PER_POST).map(|written| {
        let request = WriteRequest {
            series: written.iter().map(series).collect(),
        };
        let header = |name, value: &str| (name, value.to_owned());
        Post {
            headers: vec![
                header("Content-Type", "application/x-protobuf"),
                header("Content-Encoding", "snappy"),
                header("X-Prometheus-Remote-Write-Version", "0.1.0"),
                (TENANT_HEADER, tenant.to_string()),
            ],
            body: snappy(&request.encode_to_vec()),
            items: written.len() as u64,
            fresh_for: SAMPLES_FRESH_FOR,
        }
    });
    posts.collect()
}

/// Fails only for texts of more than 4 GiB, which two thousand samples are not.
fn snappy(bytes: &[u8]) -> Bytes {
    let packed = snap::raw::Encoder::new().compress_vec(bytes);
    packed.unwrap_or_default().into()
}

fn series(written: &Written) -> TimeSeries {
    let labels = written.labels.iter().map(|(name, value)| Label {
        name: name.clone(),
        value: value.clone(),
    });
    TimeSeries {
        labels: labels.collect(),
        samples: vec![Sample {
            value: written.value,
            at: written.at.div_euclid(NANOS_PER_MILLI),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_what_alertmanagers_take() {
        let notice = Notice {
            labels: Texts::from([("alertname".to_owned(), "A".to_owned())]),
            annotations: Texts::new(),
            starts_at: 1_700_000_000_123_456_789,
            ends_at: 1_700_000_060_000_000_000,
            expr: "vector(1) > 0".to_owned(),
        };
        let notices = vec![notice; ALERTS_PER_POST + 1];
        let posts = alerts(&TenantId::default(), &notices, "http://g", Duration::ZERO);
        assert_eq!(
            posts.iter().map(|post| post.items).collect::<Vec<_>>(),
            [64, 1]
        );
        let body: serde_json::Value = serde_json::from_slice(&posts[1].body).unwrap();
        let want = serde_json::json!([{
            "labels": {"alertname": "A"},
            "annotations": {},
            "startsAt": "2023-11-14T22:13:20.123Z",
            "endsAt": "2023-11-14T22:14:20.000Z",
            "generatorURL": "http://g/explore?left=%7B%22queries%22%3A%5B%7B%22expr%22%3A%22vector%281%29+%3E+0%22%2C%22queryType%22%3A%22range%22%7D%5D%7D",
        }]);
        assert_eq!(body, want);
    }

    #[test]
    fn samples_are_what_remote_write_takes() {
        let written = Written {
            labels: Texts::from(
                [("__name__", "r"), ("a", "b")].map(|(n, v)| (n.to_owned(), v.to_owned())),
            ),
            value: f64::from_bits(0x7ff0_0000_0000_0002),
            at: 1_700_000_000_123_456_789,
        };
        let posts = samples(&TenantId::default(), &[written]);
        let bytes = snap::raw::Decoder::new()
            .decompress_vec(&posts[0].body)
            .unwrap();
        let request = WriteRequest::decode(&*bytes).unwrap();
        let [series] = &request.series[..] else {
            panic!("{request:?}");
        };
        assert_eq!(series.labels[0].name, "__name__");
        assert_eq!(series.samples[0].at, 1_700_000_000_123);
        assert_eq!(series.samples[0].value.to_bits(), 0x7ff0_0000_0000_0002);
    }
}
