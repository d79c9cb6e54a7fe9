//! Names and values of stream labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use hashbrown::HashSet;
use model::{Labels, Selector, TimeRange};

use super::call::Call;
use super::json::Json;
use super::selector::optional_selector;
use crate::source::Wanted;
use crate::tenants::{TENANT_LABEL, tagged};
use crate::{Error, Querier};

/// Labels that tell where something runs: shown whatever their values look like.
const ALWAYS_DETECTED: [&str; 4] = ["cluster", "namespace", "instance", "pod"];

/// `/loki/api/v1/labels`
pub(super) async fn names(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let names = label_names(&querier, &call).await?;
    Ok(super::json(success(&names)))
}

/// `/loki/api/v1/label/{name}/values`
pub(super) async fn values(
    State(querier): State<Querier>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let values = label_values(&querier, &call, &name).await?;
    Ok(super::json(success(&values)))
}

/// `/loki/api/v1/detected_labels`
pub(super) async fn detected(
    State(querier): State<Querier>,
    call: Call,
) -> Result<Response, Error> {
    call.params.range(querier.shared.now())?;
    let streams = streams_of(&querier, &call).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in streams.iter().flat_map(|labels| labels.iter()) {
        values.entry(name).or_default().insert(value);
    }
    values.retain(|name, values| {
        ALWAYS_DETECTED.contains(name) || !values.iter().all(|value| is_id(value))
    });
    let mut json = Json::default();
    json.object(|json| {
        // As Loki, without the key if there are none.
        if values.is_empty() {
            return;
        }
        json.key("detectedLabels").array(|json| {
            for (name, values) in &values {
                json.object(|json| {
                    json.key("label").string(name);
                    json.key("cardinality").int(values.len() as u64);
                });
            }
        });
    });
    Ok(super::json(json))
}

/// The names of all labels, in order.
pub(super) async fn label_names(querier: &Querier, call: &Call) -> Result<BTreeSet<String>, Error> {
    let streams = streams_of(querier, call).await?;
    let names = streams.iter().flat_map(|labels| labels.iter());
    Ok(distinct(names.map(|(name, _)| name)))
}

/// The values of a label, in order.
pub(super) async fn label_values(
    querier: &Querier,
    call: &Call,
    name: &str,
) -> Result<BTreeSet<String>, Error> {
    let streams = streams_of(querier, call).await?;
    if name == TENANT_LABEL && !call.tenants.is_many() {
        // As in Loki: one may ask for it, although streams do not show it.
        return Ok(distinct(call.tenants.iter().map(|tenant| tenant.as_str())));
    }
    let values = streams.iter().filter_map(|labels| labels.get(name));
    Ok(distinct(values))
}

/// Each text once, in order. There may be millions of streams and few texts, or as many of both.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let once: HashSet<&str> = texts.collect();
    once.into_iter().map(str::to_owned).collect()
}

async fn streams_of(querier: &Querier, call: &Call) -> Result<Vec<Arc<Labels>>, Error> {
    let selector = optional_selector(call)?;
    let range = call.lax_range(querier)?;
    streams(querier, call, vec![selector], range).await
}

/// The label sets that have records in the range and match any of the selectors, each once.
pub(super) async fn streams(
    querier: &Querier,
    call: &Call,
    selectors: Vec<Selector>,
    range: TimeRange,
) -> Result<Vec<Arc<Labels>>, Error> {
    let work = move |source: &crate::tenants::TenantsSource, budget: &query::Budget| {
        let (mut found, mut parts) = (Vec::new(), 0);
        for selector in &selectors {
            for (source, selector, tag) in source.select(selector) {
                let streams = source.streams(&selector, range, Wanted::Labels, budget)?;
                let labels = streams.totals.into_keys();
                parts += 1;
                match tag {
                    None => found.extend(labels),
                    Some(tenant) => found.extend(labels.map(|labels| tagged(&labels, tenant))),
                }
            }
        }
        if parts > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    };
    let (streams, _) = call.run(querier, work).await?;
    Ok(streams)
}

/// Loki leaves `data` out when there is none.
fn success(data: &BTreeSet<String>) -> Json {
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("success");
        if !data.is_empty() {
            json.key("data").array(|json| {
                for text in data {
                    json.string(text);
                }
            });
        }
    });
    json
}

/// Whether a value is a number or a UUID: of no help to somebody who looks for a label to pick.
fn is_id(value: &str) -> bool {
    let uuid = value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    uuid || value.parse::<f64>().is_ok()
}
