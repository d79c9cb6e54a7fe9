//! Rules from the request to what the catalog keeps of their alerts. Time is a number that the test
//! sets; what is waited for is the catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use meta::MemoryMeta;
use model::{NodeId, TenantId};
use prometheus::Registry;
use querier::{Config, Metrics, Querier, Ruler, Sources, http_router};
use rpc::{Catalog, Command, MetaApi, Outcome};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::world::{NOW, SECOND, World, record};

/// A process over records and a catalog that outlive it.
struct Process {
    querier: Querier,
    router: Router,
}

struct Rules {
    world: World,
    meta: Arc<MemoryMeta>,
    clock: Arc<AtomicI64>,
}

impl Rules {
    fn new() -> Rules {
        let world = World::new();
        world.head(&[record("shop", 5, "error 1"), record("shop", 4, "error 2")]);
        Rules {
            world,
            meta: Arc::default(),
            clock: Arc::new(AtomicI64::new(NOW)),
        }
    }

    fn process(&self, config: Config) -> Process {
        self.process_over(Arc::clone(&self.meta) as Arc<dyn MetaApi>, config)
    }

    fn process_over(&self, meta: Arc<dyn MetaApi>, config: Config) -> Process {
        let sources = Sources {
            search: Arc::clone(&self.world.search) as Arc<dyn rpc::SearchApi>,
            meta,
            storage: self.world.storage.clone(),
            retention: std::time::Duration::ZERO,
        };
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let querier = Querier::new(config, sources, metrics, clock);
        Process {
            router: http_router(querier.clone()),
            querier,
        }
    }

    /// Lets time pass, and everybody notice.
    async fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * SECOND, Ordering::SeqCst);
        let nothing = Command::ReleaseLease {
            name: "nothing".into(),
            holder: NodeId(1),
        };
        self.meta.propose(nothing).await.unwrap();
    }

    /// Waits until the catalog keeps a state of a group with this text in it.
    async fn kept(&self, text: &str) {
        self.states(|states| states.iter().any(|state| state.contains(text)))
            .await;
    }

    async fn states(&self, are: impl Fn(&[&str]) -> bool) {
        let mut catalog = self.meta.catalog();
        loop {
            let states: Vec<&str> = catalog.rules.values().map(|group| &*group.state).collect();
            if are(&states) {
                return;
            }
            let changed = self.meta.changed(catalog.version);
            let changed = tokio::time::timeout(PATIENCE, changed).await;
            catalog = changed.unwrap();
        }
    }
}

impl Process {
    /// Evaluates from the time on that it is: the task has seen the groups when this returns, since
    /// the test's runtime has one thread.
    async fn start(&self) -> Ruler {
        let ruler = self.querier.start_rules().unwrap();
        tokio::task::yield_now().await;
        ruler
    }

    /// Begins with [`GROUP`], and evaluates it for the first time.
    async fn start_with_group(&self, rules: &Rules) -> Ruler {
        assert_eq!(self.post(GROUP).await.0, 202);
        let ruler = self.start().await;
        rules.pass(10).await;
        ruler
    }

    async fn send(&self, method: &str, path: &str, tenant: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("X-Scope-OrgID", tenant);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, group: &str) -> (u16, String) {
        let path = "/loki/api/v1/rules/n%20s";
        self.send("POST", path, TenantId::DEFAULT, group).await
    }

    async fn alerts(&self) -> Vec<Value> {
        let path = "/prometheus/api/v1/alerts";
        let (status, body) = self.send("GET", path, TenantId::DEFAULT, "").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["data"]["alerts"].as_array().unwrap().clone()
    }
}

/// After so long what is waited for does not happen.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A catalog whose first saving of states fails.
struct Failing {
    meta: Arc<MemoryMeta>,
    is_to_fail: AtomicBool,
    failed: Notify,
}

#[async_trait]
impl MetaApi for Failing {
    fn catalog(&self) -> Arc<Catalog> {
        self.meta.catalog()
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        self.meta.changed(version).await
    }

    async fn propose(&self, command: Command) -> Result<Outcome, rpc::Error> {
        let is_state = matches!(command, Command::SaveRuleStates { .. });
        if is_state && self.is_to_fail.swap(false, Ordering::SeqCst) {
            self.failed.notify_one();
            return Err(rpc::Error::Unavailable("nobody leads".to_owned()));
        }
        self.meta.propose(command).await
    }
}

const GROUP: &str = "\
name: g
interval: 10s
rules:
- alert: Errors
  expr: sum by (app) (count_over_time({app=\"shop\"} |= \"error\" [1h])) > 1
  for: 15s
  annotations: {summary: '{{ $labels.app }}: {{ $value }}'}
";

#[tokio::test]
async fn an_alert_becomes_pending_then_fires_and_another_process_goes_on_with_it() {
    let rules = Rules::new();
    let first = rules.process(Config::default());
    let ruler = first.start_with_group(&rules).await;
    rules.kept("\"pending\"").await;
    ruler.stop().await;
    let second = rules.process(Config::default());
    // The second process has evaluated nothing yet.
    let pending = second.alerts().await;
    assert_eq!(pending[0]["state"], "pending");
    assert_eq!(pending[0]["annotations"]["summary"], "shop: 2");
    let ruler = second.start().await;
    rules.pass(20).await;
    rules.kept("\"firing\"").await;
    let firing = second.alerts().await;
    assert_eq!(firing[0]["state"], "firing");
    assert_eq!(firing[0]["activeAt"], pending[0]["activeAt"]);
    // An hour later the lines are too old.
    rules.pass(7200).await;
    rules.kept("\"inactive\"").await;
    assert_eq!(second.alerts().await, Vec::<Value>::new());
    ruler.stop().await;
}

#[tokio::test]
async fn queries_of_rules_have_the_limits_of_queries() {
    let rules = Rules::new();
    let config = Config {
        query_length_max: std::time::Duration::from_secs(60),
        ..Config::default()
    };
    let process = rules.process(config);
    let always = "- {alert: Always, expr: vector(1)}\n";
    assert_eq!(process.post(&format!("{GROUP}{always}")).await.0, 202);
    let ruler = process.start().await;
    rules.pass(10).await;
    // The other rule of the group is evaluated all the same.
    rules.kept("Always").await;
    let path = "/prometheus/api/v1/rules?rule_name=Errors";
    let (_, body) = process.send("GET", path, TenantId::DEFAULT, "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let rule = &body["data"]["groups"][0]["rules"][0];
    assert_eq!(rule["health"], "err");
    let text = "the query time range exceeds the limit (query length: 1h0m0s, limit: 1m)";
    assert_eq!(rule["lastError"], text);
    ruler.stop().await;
}

#[tokio::test]
async fn groups_belong_to_one_tenant_and_a_tenant_has_only_so_many() {
    let rules = Rules::new();
    let process = rules.process(Config {
        rules_groups_max: 1,
        rules_per_group_max: 1,
        ..Config::default()
    });
    let path = "/loki/api/v1/rules/n%20s";
    assert_eq!(process.post(GROUP).await.0, 202);
    assert_eq!(process.post(GROUP).await.0, 202, "it replaces itself");
    let (status, text) = process.post("name: h\nrules: []\n").await;
    let want = "per-user rule groups limit (limit: 1 actual: 2) exceeded\n";
    assert_eq!((status, &*text), (400, want));
    let two = format!("{GROUP}- {{alert: B, expr: vector(1)}}\n");
    let (status, text) = process.post(&two).await;
    let want = "per-user rules per rule group limit (limit: 1 actual: 2) exceeded\n";
    assert_eq!((status, &*text), (400, want));
    let (status, text) = process.send("GET", path, "blue", "").await;
    assert_eq!((status, &*text), (404, "no rule groups found\n"));
    for (method, path) in [
        ("GET", path),
        ("POST", path),
        ("DELETE", path),
        ("GET", "/prometheus/api/v1/rules"),
        ("GET", "/prometheus/api/v1/alerts"),
    ] {
        let (status, text) = process.send(method, path, "blue|default", GROUP).await;
        assert_eq!(status, 400, "{method} {path}");
        assert!(text.contains("too many org ids found"), "{text}");
    }
    let (status, yaml) = process.send("GET", path, TenantId::DEFAULT, "").await;
    assert_eq!(status, 200);
    assert!(
        yaml.starts_with("n s:\n    - name: g\n      interval: 10s\n"),
        "{yaml}"
    );
    let recording = "name: r\nrules:\n- {record: a, expr: vector(1)}\n";
    let (status, text) = process.send("POST", path, "blue", recording).await;
    assert_eq!(status, 400);
    assert!(text.contains("rules_remote_write_url"), "{text}");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused_at_the_start() {
    let rules = Rules::new();
    for address in ["alertmanager:9093", "ftp://a", "http://"] {
        let process = rules.process(Config {
            alertmanager_url: format!("http://127.0.0.1:9093, {address}"),
            ..Config::default()
        });
        let refused = process.querier.start_rules().map(drop).unwrap_err();
        assert!(
            refused.to_string().contains("alertmanager_url"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_process_that_is_stopped_saves_what_could_not_be_saved_before() {
    let rules = Rules::new();
    let failing = Arc::new(Failing {
        meta: Arc::clone(&rules.meta),
        is_to_fail: AtomicBool::new(true),
        failed: Notify::new(),
    });
    let meta = Arc::clone(&failing) as Arc<dyn MetaApi>;
    let process = rules.process_over(meta, Config::default());
    let ruler = process.start_with_group(&rules).await;
    failing.failed.notified().await;
    ruler.stop().await;
    let catalog = rules.meta.catalog();
    let mut states = catalog.rules.values().map(|group| &*group.state);
    assert!(states.all(|state| state.contains("\"pending\"")));
}

#[tokio::test]
async fn alerts_of_a_rule_that_was_removed_do_not_come_back_with_it() {
    let rules = Rules::new();
    let process = rules.process(Config::default());
    let ruler = process.start_with_group(&rules).await;
    rules.kept("\"pending\"").await;
    let without = "name: g\ninterval: 10s\nrules: []\n";
    assert_eq!(process.post(without).await.0, 202);
    rules
        .states(|states| states.iter().all(|state| state.is_empty()))
        .await;
    // Also when it is removed while nobody evaluates.
    assert_eq!(process.post(GROUP).await.0, 202);
    rules.pass(10).await;
    rules.kept("\"pending\"").await;
    ruler.stop().await;
    assert_eq!(process.post(without).await.0, 202);
    let ruler = process.start().await;
    rules
        .states(|states| states.iter().all(|state| state.is_empty()))
        .await;
    ruler.stop().await;
}

#[tokio::test]
async fn a_group_that_names_a_long_text_often_is_refused() {
    let rules = Rules::new();
    let process = rules.process(Config::default());
    let long = "x".repeat(400_000);
    let group = |more: &str| {
        format!(
            "name: g\nrules:\n- alert: A\n  expr: vector(1)\n  annotations: {{a: &x {long}{more}}}\n"
        )
    };
    let (status, text) = process.post(&group(", b: *x, c: *x")).await;
    let want = "a rule group has 1048576 bytes at most\n";
    assert_eq!((status, &*text), (400, want));
    assert_eq!(process.post(&group(", b: *x")).await.0, 202);
}

#[tokio::test]
async fn a_group_goes_on_at_its_times_when_another_rule_is_added() {
    let rules = Rules::new();
    let process = rules.process(Config::default());
    let ruler = process.start_with_group(&rules).await;
    rules.kept("\"pending\"").await;
    rules.clock.fetch_add(100 * SECOND, Ordering::SeqCst);
    // It is due; that it is changed at this moment is no reason to wait for another interval.
    let always = "- {alert: Always, expr: vector(1)}\n";
    assert_eq!(process.post(&format!("{GROUP}{always}")).await.0, 202);
    rules.kept("Always").await;
    ruler.stop().await;
}
