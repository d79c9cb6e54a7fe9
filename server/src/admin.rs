//! `/admin/api/v1`: what an operator asks of a process.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ingester::Ingester;
use model::Kind;
use rpc::{Catalog, IngestApi, MetaApi};
use serde::Serialize;

#[derive(Clone)]
struct Admin {
    ingester: Ingester,
    meta: Arc<dyn MetaApi>,
}

/// What is stored, heads not counted.
#[derive(Debug, Serialize)]
struct Storage {
    version: u64,
    segments: u64,
    bytes: u64,
    records: u64,
    tenants: BTreeMap<String, BTreeMap<&'static str, Usage>>,
}

/// What one tenant has of one signal. A segment may hold several tenants; its bytes are shared out
/// by their content.
#[derive(Debug, Default, Serialize)]
struct Usage {
    segments: u64,
    bytes: u64,
    records: u64,
    content_bytes: u64,
    first: i64,
    last: i64,
}

/// `POST flush`, `POST merge`, `GET storage`.
pub(crate) fn router(ingester: Ingester, meta: Arc<dyn MetaApi>) -> Router {
    Router::new()
        .route("/admin/api/v1/flush", post(flush))
        .route("/admin/api/v1/merge", post(merge))
        .route("/admin/api/v1/storage", get(storage))
        .with_state(Admin { ingester, meta })
}

async fn flush(State(admin): State<Admin>) -> Response {
    answer(admin.ingester.flush().await)
}

async fn merge(State(admin): State<Admin>) -> Response {
    answer(admin.ingester.merge_now().await.map(|_| ()))
}

async fn storage(State(admin): State<Admin>) -> Json<Storage> {
    Json(usage(&admin.meta.catalog()))
}

fn answer(outcome: Result<(), rpc::Error>) -> Response {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(reason) => {
            let status = match reason.kind() {
                Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                Kind::OutOfSpace => StatusCode::INSUFFICIENT_STORAGE,
                Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, format!("{reason}\n")).into_response()
        }
    }
}

fn usage(catalog: &Catalog) -> Storage {
    let mut storage = Storage {
        version: catalog.version,
        segments: 0,
        bytes: 0,
        records: 0,
        tenants: BTreeMap::new(),
    };
    for segment in catalog.segments.values() {
        storage.segments += 1;
        storage.bytes += segment.object_bytes;
        storage.records += segment.records();
        let content: u64 = segment
            .tenants
            .iter()
            .map(|tenant| tenant.content_bytes)
            .sum();
        for tenant in &segment.tenants {
            let signals = storage
                .tenants
                .entry(tenant.tenant.to_string())
                .or_default();
            let usage = signals.entry(segment.signal.as_str()).or_insert(Usage {
                first: tenant.first,
                last: tenant.last,
                ..Usage::default()
            });
            let share = tenant.content_bytes as f64 / content.max(1) as f64;
            usage.segments += 1;
            usage.bytes += (segment.object_bytes as f64 * share).round() as u64;
            usage.records += tenant.records;
            usage.content_bytes += tenant.content_bytes;
            usage.first = usage.first.min(tenant.first);
            usage.last = usage.last.max(tenant.last);
        }
    }
    storage
}

#[cfg(test)]
mod tests {
    use model::{Signal, TenantId};
    use rpc::{SegmentId, SegmentMeta, TenantSegment};

    use super::*;

    #[test]
    fn a_shared_segment_is_shared_out_by_content() {
        let tenant = |name: &str, content_bytes| TenantSegment {
            tenant: TenantId::new(name).unwrap(),
            records: 10,
            content_bytes,
            first: 1,
            last: 9,
        };
        let segment = SegmentMeta {
            id: SegmentId(1),
            signal: Signal::Logs,
            path: "x".into(),
            object_bytes: 400,
            created: 0,
            level: 0,
            tenants: vec![tenant("a", 300), tenant("b", 100)],
        };
        let mut catalog = Catalog::default();
        catalog.segments.insert(SegmentId(1), Arc::new(segment));
        let storage = usage(&catalog);
        assert_eq!(
            (storage.segments, storage.bytes, storage.records),
            (1, 400, 20)
        );
        assert_eq!(storage.tenants["a"]["logs"].bytes, 300);
        assert_eq!(storage.tenants["b"]["logs"].bytes, 100);
    }
}
