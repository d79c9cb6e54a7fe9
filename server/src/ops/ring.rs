//! Who is in the cluster, in the form in which Loki's ring pages say it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use meta::{MemberStatus, Node};
use model::NodeId;
use ring::Placement;
use rpc::{Catalog, MetaApi};
use serde::Serialize;

use super::stop::Form;
use crate::admin::{answer, forget_member};

/// As Loki's answer in JSON: `shards` are the members.
#[derive(Debug, Serialize)]
struct Page {
    shards: Vec<Row>,
    now: String,
}

#[derive(Debug, Serialize)]
struct Row {
    /// The number of the process.
    id: String,
    state: String,
    address: String,
    /// When it was heard of last.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    zone: String,
    roles: Vec<String>,
    /// Of an ingester: where the shards that it owns begin in the space of stream hashes, whose size
    /// is 2^32.
    tokens: Vec<u32>,
    /// Its part of all that is owned, percent.
    ownership: f64,
}

pub(super) fn router(node: Node) -> Router {
    Router::new()
        .route("/ring", get(ingesters).post(forget))
        .route("/distributor/ring", get(distributors).post(forget))
        .route("/memberlist", get(memberlist))
        .route("/partition-ring", get(no_partitions))
        .with_state(node)
}

async fn ingesters(State(node): State<Node>, headers: HeaderMap) -> Response {
    show(&node, "ingester", &headers).await
}

async fn distributors(State(node): State<Node>, headers: HeaderMap) -> Response {
    show(&node, "distributor", &headers).await
}

async fn memberlist() -> &'static str {
    "This process gossips with nobody; /ring and `pharos ring` show the cluster.\n"
}

async fn no_partitions() -> Response {
    let text = "there are no partitions: batches go to the owners of their shard, see /ring\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// `POST` with `forget=<id>`, as the button of Loki's page sends it. However often it is sent, it
/// accepts no loss of records.
async fn forget(State(node): State<Node>, form: Form) -> Response {
    let id = form.get("forget").unwrap_or_default();
    let Ok(id) = id.parse() else {
        let text = format!("forget={id:?} is not the number of a process; /ring lists them\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    match forget_member(&node, NodeId(id), false).await {
        Ok(()) => (StatusCode::FOUND, [(header::LOCATION, "#")]).into_response(),
        refused => answer(refused),
    }
}

async fn show(node: &Node, role: &str, headers: &HeaderMap) -> Response {
    let status = node.cluster_status().await;
    let now = jiff::Timestamp::now();
    let owned = owned(&node.catalog());
    let members = status.members.iter();
    let members = members.filter(|member| member.roles.iter().any(|played| played == role));
    let page = Page {
        shards: members.map(|member| row(member, &owned, now)).collect(),
        now: now.to_string(),
    };
    let accept = headers.get(header::ACCEPT).map(|accept| accept.as_bytes());
    let json =
        accept.is_some_and(|accept| accept.windows(16).any(|part| part == b"application/json"));
    match json {
        true => Json(page).into_response(),
        false => Html(html(&page, role)).into_response(),
    }
}

/// Where the shards of each member begin, and how many there are to own, each as often as it is kept.
struct Owned {
    begins: BTreeMap<NodeId, Vec<u32>>,
    total: usize,
}

fn owned(catalog: &Catalog) -> Owned {
    let cluster = &catalog.cluster;
    let mut owned = Owned {
        begins: BTreeMap::new(),
        total: 0,
    };
    let Some(shape) = cluster.shape else {
        return owned;
    };
    let members = cluster.ring.members.iter();
    let members = members.map(|(id, zone)| (*id, zone));
    let placement = Placement::new(members, cluster.ring.shards, shape.replicas);
    for (shard, owners) in placement.shards() {
        // Rounded up: the first hash that falls into the shard.
        let begin = (u64::from(shard.0) << 32).div_ceil(u64::from(cluster.ring.shards.max(1)));
        for owner in owners {
            let begins = owned.begins.entry(*owner).or_default();
            begins.push(u32::try_from(begin).unwrap_or(u32::MAX));
            owned.total += 1;
        }
    }
    owned
}

fn row(member: &MemberStatus, owned: &Owned, now: jiff::Timestamp) -> Row {
    let tokens = owned.begins.get(&NodeId(member.node));
    let tokens = tokens.cloned().unwrap_or_default();
    let heard = member.silent_millis.and_then(|millis| {
        let silent = std::time::Duration::from_millis(millis);
        now.checked_sub(silent).ok()
    });
    Row {
        id: member.node.to_string(),
        state: member.state.to_uppercase(),
        address: member.address.clone(),
        timestamp: heard.map(|heard| heard.to_string()),
        zone: member.zone.clone(),
        roles: member.roles.clone(),
        ownership: tokens.len() as f64 * 100.0 / owned.total.max(1) as f64,
        tokens,
    }
}

fn html(page: &Page, role: &str) -> String {
    let mut rows = String::new();
    for row in &page.shards {
        let cells = [
            row.id.as_str(),
            &row.zone,
            &row.state,
            &row.address,
            &row.roles.join(", "),
            row.timestamp.as_deref().unwrap_or("-"),
            &row.tokens.len().to_string(),
            &format!("{:.1} %", row.ownership),
        ];
        rows += "<tr>";
        for cell in cells {
            rows += &format!("<td>{}</td>", escaped(cell));
        }
        rows += "</tr>\n";
    }
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"UTF-8\"><title>Ring</title></head><body>\n\
         <h1>Ring: {role}s</h1>\n<p>{}</p>\n<table border=\"1\">\n\
         <tr><th>Process</th><th>Zone</th><th>State</th><th>Address</th><th>Roles</th><th>Last heard</th><th>Shards</th><th>Ownership</th></tr>\n\
         {rows}</table>\n<p><code>pharos ring forget NUMBER</code> takes a process off the list that will not come back.</p>\n</body></html>\n",
        page.now
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingester_is_shown_with_its_shards() {
        let mut catalog = Catalog::default();
        catalog.cluster.shape = Some(rpc::ClusterShape {
            shards: 4,
            replicas: 1,
            slot_nanos: 1,
        });
        catalog.cluster.ring.shards = 4;
        catalog.cluster.ring.members.insert(NodeId(7), "a".into());
        let owned = owned(&catalog);
        let member = MemberStatus {
            node: 7,
            address: "<host>:1".into(),
            zone: "a".into(),
            roles: vec!["ingester".into()],
            state: "active".into(),
            voter: true,
            silent_millis: Some(1_500),
        };
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let row = row(&member, &owned, now);
        assert_eq!(row.tokens, [0, 1 << 30, 2 << 30, 3 << 30]);
        assert_eq!((row.state.as_str(), row.ownership), ("ACTIVE", 100.0));
        assert_eq!(row.timestamp.as_deref(), Some("2026-01-02T03:04:03.5Z"));
        let page = Page {
            shards: vec![row],
            now: now.to_string(),
        };
        assert!(html(&page, "ingester").contains("<td>&lt;host&gt;:1</td>"));
    }
}
