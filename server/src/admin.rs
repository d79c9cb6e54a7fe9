//! `/admin/api/v1`: what an operator asks of a process.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ingester::Ingester;
use meta::{Node, Status, Timings};
use model::{Kind, NodeId};
use rpc::{Catalog, Command, MemberState, MetaApi};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone)]
struct Admin {
    /// `None` in a process without that role.
    ingester: Option<Ingester>,
    node: Node,
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

/// `POST merge`, `GET storage`, and `ring`: `GET`, `POST leave/{node}`, `POST forget/{node}`,
/// `POST shards/{shards}`.
pub(crate) fn router(ingester: Option<Ingester>, node: Node) -> Router {
    Router::new()
        .route("/admin/api/v1/merge", post(merge))
        .route("/admin/api/v1/storage", get(storage))
        .route("/admin/api/v1/ring", get(ring))
        .route("/admin/api/v1/ring/leave/{node}", post(leave))
        .route("/admin/api/v1/ring/forget/{node}", post(forget))
        .route("/admin/api/v1/ring/shards/{shards}", post(raise_shards))
        .with_state(Admin { ingester, node })
}

async fn merge(State(admin): State<Admin>) -> Response {
    match &admin.ingester {
        Some(ingester) => answer(ingester.merge_now().await.map(drop)),
        None => answer(Err(no_ingester())),
    }
}

pub(crate) fn no_ingester() -> rpc::Error {
    let text = "this process is no ingester; ask one of those that `pharos ring` lists";
    rpc::Error::NotFound(text.to_owned())
}

async fn storage(State(admin): State<Admin>) -> Json<Storage> {
    Json(usage(&admin.node.catalog()))
}

async fn ring(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.node.cluster_status().await)
}

async fn leave(State(admin): State<Admin>, Path(node): Path<u64>) -> Response {
    let leaving = Command::SetState(NodeId(node), MemberState::Leaving);
    answer(admin.node.propose(leaving).await.map(drop))
}

async fn raise_shards(State(admin): State<Admin>, Path(shards): Path<u32>) -> Response {
    answer(
        admin
            .node
            .propose(Command::RaiseShards(shards))
            .await
            .map(drop),
    )
}

/// Parameters of `forget`. Others are refused, so that nobody forgets who meant to accept a loss.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Forgetting {
    accept_loss: bool,
    force: bool,
}

async fn forget(
    State(admin): State<Admin>,
    Path(node): Path<u64>,
    Query(forgetting): Query<Forgetting>,
) -> Response {
    let node = NodeId(node);
    answer(match forgetting.accept_loss {
        true => admin
            .node
            .propose(Command::AcceptLoss(node))
            .await
            .map(drop),
        false => forget_member(&admin.node, node, forgetting.force).await,
    })
}

/// Takes a member off the list; one that lives, only by force.
pub(crate) async fn forget_member(node: &Node, id: NodeId, force: bool) -> Result<(), rpc::Error> {
    if !force && let Some(text) = lives(&node.cluster_status().await, id) {
        return Err(rpc::Error::Conflict(text));
    }
    node.propose(Command::Forget(id)).await.map(drop)
}

/// Why an ingester had better not be forgotten. Others have nothing to lose, and join anew.
fn lives(status: &Status, id: NodeId) -> Option<String> {
    let mut members = status.members.iter();
    let member = members.find(|member| member.node == id.0)?;
    let silent = Duration::from_millis(member.silent_millis?);
    let is_ingester = member.roles.iter().any(|role| role == "ingester");
    (is_ingester && silent < Timings::default().live_within).then(|| {
        format!(
            "node {id} answered {:.1} s ago: `pharos ring leave {id}` stores what it has; `--force` (`force=true`) \
             forgets it all the same",
            silent.as_secs_f64(),
            id = id.0
        )
    })
}

pub(crate) fn answer(outcome: Result<(), rpc::Error>) -> Response {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(reason) => {
            let status = match reason.kind() {
                Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                Kind::OutOfSpace => StatusCode::INSUFFICIENT_STORAGE,
                Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::Conflict => StatusCode::CONFLICT,
                Kind::Invalid => StatusCode::BAD_REQUEST,
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
    use std::sync::Arc;

    use model::{Signal, TenantId};
    use rpc::{SegmentId, SegmentMeta, TenantSegment};

    use super::*;

    #[test]
    fn an_ingester_that_was_heard_of_a_moment_ago_lives() {
        let status = |role: &str, silent: &str| -> Status {
            let text = format!(
                r#"{{"protocol":1,"cluster":"00","node":1,"address":"a:1","ingester":true,"leader":null,"term":3,
                "voters":[1],"learners":[],"last_log":9,"applied":9,"snapshot":null,"version":7,"last_node":12,
                "segments":5,"ring":4,"past_rings":[],"members":[{{"node":1,"address":"a:1","zone":"x",
                "roles":["{role}"],"state":"active","voter":true,"silent_millis":{silent}}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let text = lives(&status("ingester", "1200"), NodeId(1)).unwrap();
        assert!(
            text.starts_with("node 1 answered 1.2 s ago: `pharos ring leave 1` stores what it has"),
            "{text}"
        );
        assert!(lives(&status("ingester", "9999"), NodeId(1)).is_some());
        for (gone, id) in [
            (status("ingester", "10000"), 1),
            (status("ingester", "null"), 1),
            (status("querier", "1200"), 1),
            (status("ingester", "1200"), 2),
        ] {
            assert_eq!(lives(&gone, NodeId(id)), None, "{gone:?}");
        }
    }

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
