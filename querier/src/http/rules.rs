//! Loki's routes of rules, and those of Prometheus that tell how rules and alerts are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{NANOS_PER_SECOND, TenantId, Timestamp};
use rpc::{Catalog, Command, RuleGroup, RuleGroupId};

use super::call::Call;
use super::json::Json;
use crate::rules::{
    AlertReport, Allowed, Group, GroupReport, Phase, Rule, RuleReport, refusal, yaml as written,
};
use crate::{Error, Querier};

const TOO_MANY: &str = "too many org ids found";
const NO_GROUPS: &str = "no rule groups found";
const NO_GROUP: &str = "group does not exist";
const NO_NAMESPACE: &str = "group namespace does not exist";
const UNREADABLE: &str = "unable to decoded rule group";
/// Longest definition of a group.
const BYTES_MAX: usize = 1024 * 1024;

/// What keeps a request from its answer, as Loki tells it: in a line of text.
pub(super) struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{}\n", self.0);
        let (mut parts, _) = self.0.into_response().into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, text.into())
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal(Error::Invalid(text.into()))
}

fn missing(text: &str) -> Refusal {
    Refusal(Error::NotFound(text.to_owned()))
}

fn broken(text: String) -> Refusal {
    Refusal(Error::Internal(text))
}

fn tenant(call: &Call) -> Result<TenantId, Refusal> {
    match call.tenants.is_many() {
        true => Err(bad(TOO_MANY)),
        false => Ok(call.tenants.first().clone()),
    }
}

/// `GET /loki/api/v1/rules`
pub(super) async fn list(State(querier): State<Querier>, call: Call) -> Result<Response, Refusal> {
    listed(&querier, tenant(&call)?, None).await
}

/// `GET /loki/api/v1/rules/{namespace}`
pub(super) async fn namespace(
    State(querier): State<Querier>,
    Path(namespace): Path<String>,
    call: Call,
) -> Result<Response, Refusal> {
    listed(&querier, tenant(&call)?, Some(namespace)).await
}

async fn listed(
    querier: &Querier,
    tenant: TenantId,
    namespace: Option<String>,
) -> Result<Response, Refusal> {
    let catalog = querier.shared.backend.meta.catalog();
    aside(querier, move || {
        list_of(&catalog, &tenant, namespace.as_deref())
    })
    .await?
}

/// Does what takes long: groups may have many rules, and these long texts.
async fn aside<T: Send + 'static>(
    querier: &Querier,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = querier.shared.backend.blocking.run(work).await;
    done.map_err(|error| broken(error.to_string()))
}

fn list_of(
    catalog: &Catalog,
    tenant: &TenantId,
    namespace: Option<&str>,
) -> Result<Response, Refusal> {
    let mut namespaces: BTreeMap<String, Vec<Group>> = BTreeMap::new();
    for (id, kept) in catalog.rules_of(tenant) {
        if namespace.is_none_or(|namespace| *id.namespace == *namespace) {
            let groups = namespaces.entry(id.namespace.to_string()).or_default();
            groups.push(read(kept)?);
        }
    }
    if namespaces.is_empty() {
        return Err(missing(NO_GROUPS));
    }
    Ok(yaml(written::of_namespaces(&namespaces)))
}

fn read(kept: &Arc<RuleGroup>) -> Result<Group, Refusal> {
    Group::from_kept(&kept.definition).map_err(|reason| {
        broken(format!(
            "a rule group in the catalog cannot be read: {reason}"
        ))
    })
}

fn yaml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], text).into_response()
}

/// `GET /loki/api/v1/rules/{namespace}/{group}`
pub(super) async fn group(
    State(querier): State<Querier>,
    Path((namespace, name)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Refusal> {
    let id = id(tenant(&call)?, &namespace, &name);
    let catalog = querier.shared.backend.meta.catalog();
    let kept = catalog.rules.get(&id);
    let kept = Arc::clone(kept.ok_or_else(|| missing(NO_GROUP))?);
    aside(&querier, move || Ok(yaml(written::of_group(&read(&kept)?)))).await?
}

fn id(tenant: TenantId, namespace: &str, name: &str) -> RuleGroupId {
    RuleGroupId {
        tenant,
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// `POST /loki/api/v1/rules/{namespace}`: adds a group or replaces it.
pub(super) async fn set(
    State(querier): State<Querier>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let tenant = tenant(&Call::of(&headers, None, &[])?)?;
    let config = &querier.shared.config;
    let allowed = Allowed {
        rules_max: config.rules_per_group_max,
        records: !config.rules_remote_write_url.is_empty(),
    };
    let (name, definition) = aside(&querier, move || definition(&body, &allowed)).await??;
    let id = id(tenant, &namespace, &name);
    let groups_max = querier.shared.config.rules_groups_max as u64;
    let command = Command::SetRules {
        group: id.clone(),
        definition: definition.into(),
        groups_max,
    };
    match querier.propose(command).await {
        Ok(()) => Ok(accepted()),
        Err(Error::Conflict(_)) => Err(too_many(&querier, &id, groups_max)),
        Err(error) => Err(error.into()),
    }
}

/// Name and definition of the group in a body.
fn definition(body: &[u8], allowed: &Allowed) -> Result<(String, String), Refusal> {
    let too_long = || bad(format!("a rule group has {BYTES_MAX} bytes at most"));
    if body.len() > BYTES_MAX {
        return Err(too_long());
    }
    let text = std::str::from_utf8(body).map_err(|_| bad(UNREADABLE))?;
    let group = Group::from_yaml(text).map_err(|reason| {
        tracing::debug!(reason, "a rule group that cannot be read");
        bad(UNREADABLE)
    })?;
    let definition = group.kept().map_err(broken)?;
    // What YAML names once, it may use often.
    if definition.len() > BYTES_MAX {
        return Err(too_long());
    }
    match refusal(&group, allowed) {
        Some(reason) => Err(bad(reason)),
        None => Ok((group.name, definition)),
    }
}

/// The catalog, which may be newer than the one here, has refused one group more than a tenant may have.
fn too_many(querier: &Querier, id: &RuleGroupId, max: u64) -> Refusal {
    let catalog = querier.shared.backend.meta.catalog();
    let groups = catalog.rules_of(&id.tenant);
    let others = groups.filter(|(other, _)| *other != id).count() as u64;
    let count = others.max(max).saturating_add(1);
    bad(format!(
        "per-user rule groups limit (limit: {max} actual: {count}) exceeded"
    ))
}

fn accepted() -> Response {
    let mut json = Json::default();
    envelope(&mut json, "success", "", "", |json| json.raw("null"));
    let answer = super::typed("application/json", json.into_bytes());
    (StatusCode::ACCEPTED, answer).into_response()
}

/// `DELETE /loki/api/v1/rules/{namespace}`
pub(super) async fn remove_namespace(
    State(querier): State<Querier>,
    Path(namespace): Path<String>,
    call: Call,
) -> Result<Response, Refusal> {
    remove(&querier, tenant(&call)?, namespace, None, NO_NAMESPACE).await
}

/// `DELETE /loki/api/v1/rules/{namespace}/{group}`
pub(super) async fn remove_group(
    State(querier): State<Querier>,
    Path((namespace, name)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Refusal> {
    remove(&querier, tenant(&call)?, namespace, Some(name), NO_GROUP).await
}

async fn remove(
    querier: &Querier,
    tenant: TenantId,
    namespace: String,
    name: Option<String>,
    not_there: &str,
) -> Result<Response, Refusal> {
    let command = Command::DeleteRules {
        tenant,
        namespace: namespace.into(),
        name: name.map(Arc::from),
    };
    match querier.propose(command).await {
        Ok(()) => Ok(accepted()),
        Err(Error::Conflict(_)) => Err(missing(not_there)),
        Err(error) => Err(error.into()),
    }
}

/// Which rules are asked for.
struct Wanted<'a> {
    alerts: bool,
    records: bool,
    files: Vec<&'a str>,
    groups: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(call: &'a Call) -> Result<Wanted<'a>, String> {
        let kind = call.params.get("type").unwrap_or_default();
        let (alerts, records) = match kind.to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            kind => return Err(format!("not supported value {kind:?}")),
        };
        // Prometheus has brackets behind the names of lists, Loki has none.
        let all = |name: &'static str, with_brackets: &'static str| {
            let plain = call.params.all(name);
            plain.chain(call.params.all(with_brackets)).collect()
        };
        Ok(Wanted {
            alerts,
            records,
            files: all("file", "file[]"),
            groups: all("rule_group", "rule_group[]"),
            names: all("rule_name", "rule_name[]"),
        })
    }

    /// The report with the rules that are wanted; `None` when none is.
    fn pick(&self, report: Arc<GroupReport>) -> Option<GroupReport> {
        let named = |wanted: &[&str], name: &str| wanted.is_empty() || wanted.contains(&name);
        if !named(&self.files, &report.namespace) || !named(&self.groups, &report.group.name) {
            return None;
        }
        let mut report = Arc::unwrap_or_clone(report);
        let rules = std::mem::take(&mut report.group.rules);
        let (rules, reports): (Vec<_>, Vec<_>) = rules
            .into_iter()
            .zip(std::mem::take(&mut report.rules))
            .filter(|(rule, _)| {
                let kind = if rule.is_alert() {
                    self.alerts
                } else {
                    self.records
                };
                kind && named(&self.names, rule.name())
            })
            .unzip();
        (report.group.rules, report.rules) = (rules, reports);
        (!report.rules.is_empty()).then_some(report)
    }
}

/// `/prometheus/api/v1/rules`
pub(super) async fn groups(State(querier): State<Querier>, call: Call) -> Response {
    if call.tenants.is_many() {
        return wrong(TOO_MANY);
    }
    if let Err(problem) = Wanted::of(&call) {
        return wrong(&problem);
    }
    let reports = querier.shared.rule_reports(call.tenants.first()).await;
    let default = querier.shared.config.rules_interval.as_nanos();
    let default = i64::try_from(default).unwrap_or(i64::MAX);
    let told = move || match Wanted::of(&call) {
        Ok(wanted) => success("groups", |json| {
            for report in reports.into_iter().filter_map(|report| wanted.pick(report)) {
                json.object(|json| group_body(json, &report, default));
            }
        }),
        Err(problem) => wrong(&problem),
    };
    let told = aside(&querier, told).await;
    told.unwrap_or_else(IntoResponse::into_response)
}

fn group_body(json: &mut Json, report: &GroupReport, default: i64) {
    let group = &report.group;
    json.key("name").string(&group.name);
    json.key("file").string(&report.namespace);
    json.key("rules").array(|json| {
        for (rule, state) in group.rules.iter().zip(&report.rules) {
            json.object(|json| {
                match rule.is_alert() {
                    true => alert_rule_body(json, group, rule, state),
                    false => {
                        json.key("name").string(&rule.record);
                        json.key("query").string(&query_text(&rule.expr));
                        texts(json.key("labels"), &group.labels_of(rule));
                    }
                }
                outcome_body(json, state);
                let kind = if rule.is_alert() {
                    "alerting"
                } else {
                    "recording"
                };
                json.key("type").string(kind);
                evaluation_body(json, state.evaluated_at, state.evaluation_nanos);
            });
        }
    });
    seconds(json.key("interval"), group.interval_or(default));
    json.key("limit").int(group.limit);
    evaluation_body(json, report.evaluated_at, report.evaluation_nanos);
}

fn alert_rule_body(json: &mut Json, group: &Group, rule: &Rule, state: &RuleReport) {
    let unknown = state.outcome.is_none() && state.alerts.is_empty();
    let phase = if unknown {
        "unknown"
    } else {
        phase_name(state.phase)
    };
    json.key("state").string(phase);
    json.key("name").string(&rule.alert);
    json.key("query").string(&query_text(&rule.expr));
    seconds(json.key("duration"), rule.hold.0);
    if rule.keep_firing_for.0 > 0 {
        seconds(json.key("keepFiringFor"), rule.keep_firing_for.0);
    }
    texts(json.key("labels"), &group.labels_of(rule));
    texts(json.key("annotations"), &rule.annotations);
    json.key("alerts")
        .array(|json| alert_bodies(json, &state.alerts));
}

/// The query as Loki prints it.
fn query_text(expr: &str) -> String {
    match query::logql::parse(expr) {
        Ok(expr) => expr.to_string(),
        Err(_) => expr.to_owned(),
    }
}

fn outcome_body(json: &mut Json, state: &RuleReport) {
    let (health, error) = match &state.outcome {
        None => ("unknown", ""),
        Some(Ok(())) => ("ok", ""),
        Some(Err(error)) => ("err", error.as_str()),
    };
    json.key("health").string(health);
    json.key("lastError").string(error);
}

fn evaluation_body(json: &mut Json, at: Option<Timestamp>, nanos: i64) {
    json.key("lastEvaluation").string(&time(at));
    seconds(json.key("evaluationTime"), nanos);
}

fn alert_bodies(json: &mut Json, alerts: &[AlertReport]) {
    for alert in alerts {
        json.object(|json| {
            texts(json.key("labels"), &alert.labels);
            texts(json.key("annotations"), &alert.annotations);
            json.key("state").string(phase_name(alert.phase));
            json.key("activeAt").string(&time(Some(alert.active_at)));
            json.key("value").string(&alert.value);
        });
    }
}

/// `/prometheus/api/v1/alerts`
pub(super) async fn alerts(State(querier): State<Querier>, call: Call) -> Response {
    if call.tenants.is_many() {
        return wrong(TOO_MANY);
    }
    let reports = querier.shared.rule_reports(call.tenants.first()).await;
    let told = move || {
        success("alerts", |json| {
            for rule in reports.iter().flat_map(|report| &report.rules) {
                alert_bodies(json, &rule.alerts);
            }
        })
    };
    let told = aside(&querier, told).await;
    told.unwrap_or_else(IntoResponse::into_response)
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Inactive => "inactive",
        Phase::Pending => "pending",
        Phase::Firing => "firing",
    }
}

fn texts(json: &mut Json, texts: &BTreeMap<String, String>) {
    json.labels(texts.iter().map(|(n, v)| (n.as_str(), v.as_str())));
}

/// Go's zero time when there was none.
fn time(at: Option<Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::from_nanosecond(i128::from(at)).ok());
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

fn seconds(json: &mut Json, nanos: i64) {
    json.float(nanos as f64 / NANOS_PER_SECOND as f64);
}

fn envelope(json: &mut Json, status: &str, kind: &str, error: &str, data: impl FnOnce(&mut Json)) {
    json.object(|json| {
        json.key("status").string(status);
        data(json.key("data"));
        json.key("errorType").string(kind);
        json.key("error").string(error);
    });
}

fn success(name: &str, items: impl FnOnce(&mut Json)) -> Response {
    let mut json = Json::default();
    envelope(&mut json, "success", "", "", |json| {
        json.object(|json| json.key(name).array(items));
    });
    super::typed("application/json", json.into_bytes())
}

fn wrong(problem: &str) -> Response {
    let mut json = Json::default();
    envelope(&mut json, "error", "bad_data", problem, |json| {
        json.raw("null")
    });
    let text = super::typed("text/plain; charset=utf-8", json.into_bytes());
    (StatusCode::BAD_REQUEST, text).into_response()
}
