//! Golden files of every format, which are never written anew: what was stored once is read for
//! ever. `test-data/v1/<name>.json` is what format 1 wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::{NodeId, RingVersion, TenantId, TimeRange, Timestamp};
use rpc::{
    ActiveDelete, Catalog, Cluster, ClusterShape, Command, CoveredHeads, DeleteId, DeleteRequest,
    Lease, Member, MemberState, NextRing, PastRing, Ring, RoleSet, RuleGroup, RuleGroupId,
    RuleProgress, SegmentId, SegmentMeta, TenantSettings,
};

use super::*;
use crate::testing::{SHAPE, flush, forget, form, member, segment, swap};

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("test-data/v1")
        .join(format!("{name}.json"));
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let settings = |retention_nanos| TenantSettings { retention_nanos };
    let tenant = TenantId::new("team-a.*'()!_").unwrap();
    vec![
        ("form_cluster", form()),
        ("raise_shards", Command::RaiseShards(16)),
        ("join", Command::Join(member("a.example:3101", "zone-1"))),
        ("update", Command::Update(member("[::1]:3101", "é"))),
        (
            "set_state",
            Command::SetState(NodeId(3), MemberState::Leaving),
        ),
        ("knows", Command::Knows(NodeId(3), RingVersion(9))),
        ("drained", Command::Drained(NodeId(3), RingVersion(9))),
        ("forget", Command::Forget(NodeId(3))),
        ("accept_loss", Command::AcceptLoss(NodeId(3))),
        (
            "take_lease",
            Command::TakeLease {
                name: "merge/7".into(),
                holder: NodeId(3),
                run_out: Timestamp::MIN,
                until: Timestamp::MAX,
            },
        ),
        (
            "release_lease",
            Command::ReleaseLease {
                name: "merge/7".into(),
                holder: NodeId(3),
            },
        ),
        (
            "commit_flush",
            flush(7, u64::MAX - 1, &["logs/1", "logs/\"é\""]),
        ),
        (
            "swap_segments",
            swap(&[1, u64::MAX], &["logs/3"], Timestamp::MIN),
        ),
        ("forget_objects", forget(&["logs/1", "logs/2"])),
        (
            "set_tenant",
            Command::SetTenant(tenant.clone(), settings(Some(0))),
        ),
        (
            "set_tenant_default",
            Command::SetTenant(tenant, settings(None)),
        ),
        ("request_delete", Command::RequestDelete(delete_request())),
        ("cancel_delete", Command::CancelDelete(DeleteId(7))),
        (
            "pass_deletes",
            Command::PassDeletes {
                deletes: [DeleteId(1), DeleteId(7)].into(),
                segments: [SegmentId(3), SegmentId(u64::MAX)].into(),
            },
        ),
        ("close_delete", Command::CloseDelete(DeleteId(7))),
        ("reopen_delete", Command::ReopenDelete(DeleteId(7), 12)),
        ("finish_delete", Command::FinishDelete(DeleteId(7), None)),
        (
            "finish_closed_delete",
            Command::FinishDelete(DeleteId(7), Some(12)),
        ),
        ("swap_segments_deleted", swap_with_deletes()),
        (
            "set_rules",
            Command::SetRules {
                group: rule_group(),
                definition: "{\"rules\":[]}".into(),
                groups_max: 0,
            },
        ),
        (
            "set_rules_limited",
            Command::SetRules {
                group: rule_group(),
                definition: "{}".into(),
                groups_max: 7,
            },
        ),
        ("delete_rules", delete_rules(None)),
        ("delete_rules_group", delete_rules(Some("g/\"é\"".into()))),
        (
            "save_rule_states",
            Command::SaveRuleStates {
                holder: NodeId(3),
                groups: vec![RuleProgress {
                    group: rule_group(),
                    state: "{}".into(),
                }],
            },
        ),
    ]
}

fn rule_group() -> RuleGroupId {
    RuleGroupId {
        tenant: TenantId::new("team-a.*'()!_").unwrap(),
        namespace: "n".into(),
        name: "g/\"é\"".into(),
    }
}

fn delete_rules(name: Option<Arc<str>>) -> Command {
    let RuleGroupId {
        tenant, namespace, ..
    } = rule_group();
    Command::DeleteRules {
        tenant,
        namespace,
        name,
    }
}

fn delete_request() -> DeleteRequest {
    DeleteRequest {
        tenant: TenantId::new("team-a.*'()!_").unwrap(),
        query: "{app=\"é\"} |= \"x\"".into(),
        range: TimeRange::new(-5, Timestamp::MAX),
        created: 1_700_000_000_000_000_000,
    }
}

fn swap_with_deletes() -> Command {
    let Command::SwapSegments(mut commit) = swap(&[1, u64::MAX], &["logs/3"], Timestamp::MIN)
    else {
        unreachable!("swap makes a swap");
    };
    commit.deleted = [DeleteId(2), DeleteId(7)].into();
    Command::SwapSegments(commit)
}

fn catalog() -> Catalog {
    let live = SegmentMeta {
        id: SegmentId(41),
        level: 2,
        ..segment("logs/41", &["a", "b"])
    };
    let covered = CoveredHeads {
        below: 17,
        also: [19, u64::MAX - 1].into(),
    };
    let settings = TenantSettings {
        retention_nanos: Some(86_400_000_000_000),
    };
    Catalog {
        version: u64::MAX,
        last_segment: 41,
        last_node: 2,
        segments: BTreeMap::from([(live.id, Arc::new(live))]),
        condemned: BTreeMap::from([(Arc::from("logs/40"), Timestamp::MAX)]),
        covered: BTreeMap::from([(1, covered)]),
        tenants: BTreeMap::from([(TenantId::default(), settings)]),
        ..Catalog::default()
    }
}

fn catalog_with_cluster() -> Catalog {
    let querier = Member {
        id: NodeId(4),
        roles: RoleSet {
            distributor: true,
            ingester: false,
            querier: true,
        },
        state: MemberState::Active,
        ..member("b:1", "z")
    };
    let ring = |version, id| Ring {
        version: RingVersion(version),
        shards: SHAPE.shards,
        members: BTreeMap::from([(NodeId(id), Arc::from("z"))]),
    };
    let past = PastRing {
        ring: ring(8, 2),
        undrained: [NodeId(2)].into(),
        lost: [NodeId(1)].into(),
    };
    let lease = Lease {
        holder: NodeId(4),
        until: 5,
    };
    let cluster = Cluster {
        shape: Some(SHAPE),
        members: BTreeMap::from([(querier.id, querier)]),
        ring: ring(9, 3),
        past_rings: BTreeMap::from([(RingVersion(8), past)]),
        leases: BTreeMap::from([(Arc::from("merge/7"), lease)]),
        ..Cluster::default()
    };
    Catalog {
        cluster,
        ..catalog()
    }
}

fn catalog_with_next_ring() -> Catalog {
    let mut catalog = catalog_with_cluster();
    let ring = Ring {
        version: RingVersion(12),
        shards: SHAPE.shards,
        members: BTreeMap::from([(NodeId(3), Arc::from("z")), (NodeId(5), Arc::from("y"))]),
    };
    catalog.cluster.next_ring = Some(NextRing {
        ring,
        known: [NodeId(3)].into(),
    });
    catalog.cluster.last_ring = RingVersion(12);
    catalog.cluster.rings_wait = true;
    catalog
}

fn catalog_with_raised_shards() -> Catalog {
    let mut catalog = catalog_with_next_ring();
    let cluster = &mut catalog.cluster;
    cluster.shape = Some(ClusterShape {
        shards: 32,
        ..SHAPE
    });
    cluster.ring.shards = 16;
    if let Some(next) = &mut cluster.next_ring {
        next.ring.shards = 32;
    }
    catalog
}

fn catalog_with_deletes() -> Catalog {
    let active = ActiveDelete {
        request: delete_request(),
        pending: [SegmentId(41)].into(),
        begun: false,
        fed: 0,
        closed: None,
    };
    Catalog {
        last_delete: 9,
        deletes: BTreeMap::from([(DeleteId(9), Arc::new(active))]),
        past_deletes: BTreeMap::from([(DeleteId(2), Arc::new(delete_request()))]),
        ..catalog()
    }
}

fn catalog_with_rules() -> Catalog {
    let group = |state: &str| {
        Arc::new(RuleGroup {
            definition: "{}".into(),
            version: 7,
            state: state.into(),
        })
    };
    let new = RuleGroupId {
        namespace: "m".into(),
        ..rule_group()
    };
    Catalog {
        rules: BTreeMap::from([(new, group("")), (rule_group(), group("{\"a\":1}"))]),
        ..catalog()
    }
}

#[test]
fn commands_have_the_form_of_the_golden_files() {
    for (name, command) in commands() {
        let text = String::from_utf8(encode_command(&command)).unwrap();
        let golden = golden(name);
        assert_eq!(text, golden, "{name}");
        assert_eq!(decode_command(golden.as_bytes()), Ok(command), "{name}");
    }
}

#[test]
fn a_catalog_has_the_form_of_the_golden_file() {
    let mut begun = catalog_with_deletes();
    for delete in begun.deletes.values_mut() {
        Arc::make_mut(delete).begun = true;
    }
    let mut closed = begun.clone();
    for delete in closed.deletes.values_mut() {
        let delete = Arc::make_mut(delete);
        (delete.fed, delete.closed) = (11, Some(12));
    }
    for (name, catalog) in [
        ("catalog", catalog()),
        ("catalog_cluster", catalog_with_cluster()),
        ("catalog_next_ring", catalog_with_next_ring()),
        ("catalog_raised_shards", catalog_with_raised_shards()),
        ("catalog_deletes_begun", begun),
        ("catalog_deletes_closed", closed),
        ("catalog_deletes", catalog_with_deletes()),
        ("catalog_rules", catalog_with_rules()),
    ] {
        let text = String::from_utf8(encode_catalog(&catalog)).unwrap();
        let golden = golden(name);
        assert_eq!(text, golden, "{name}");
        assert_eq!(decode_catalog(golden.as_bytes()), Ok(catalog), "{name}");
    }
}

#[test]
fn a_newer_format_is_named_and_not_guessed() {
    for bytes in [
        &br#"{"format":2,"command":{"forget":3}}"#[..],
        br#"{"format":2,"whatever":[]}"#,
    ] {
        assert_eq!(decode_command(bytes), Err(WireError::TooNew { found: 2 }));
    }
}

#[test]
fn damaged_bytes_are_refused_with_the_place() {
    let whole = golden("commit_flush");
    for length in 0..whole.len() {
        let cut = decode_command(&whole.as_bytes()[..length]);
        assert!(
            matches!(cut, Err(WireError::Malformed(_))),
            "{length}: {cut:?}"
        );
    }
    for (from, to, expected) in [
        ("\"logs\"", "\"smoke\"", "signal \"smoke\" is unknown"),
        (
            "\"tenant\":\"a\"",
            "\"tenant\":\"a/b\"",
            "unsupported character '/'",
        ),
        (
            "\"digest\":\"5",
            "\"digest\":\"",
            "is not 32 hexadecimal digits",
        ),
        ("\"shard\"", "\"chart\"", "unknown field `chart`"),
        ("\"format\":1", "\"format\":0", "format 0 never existed"),
    ] {
        let damaged = whole.replacen(from, to, 1);
        assert_ne!(damaged, whole, "{from}");
        let error = decode_command(damaged.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
