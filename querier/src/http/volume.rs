//! How much there is: `index/stats`, `index/volume`, `index/volume_range`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use hashbrown::HashMap;
use model::{Labels, Selector, TimeRange, Timestamp};

use super::call::Call;
use super::json::Json;
use super::limits::parse_size;
use super::parquet;
use super::selector::{narrow_selector, selector};
use super::stats;
use crate::run::Effort;
use crate::source::{Volumes, Wanted};
use crate::tenants::{TenantsSource, tagged};
use crate::{Error, Querier};

/// How many volumes are returned when the request does not say.
const VOLUMES_DEFAULT: u64 = 100;

/// Streams, chunks, bytes and entries, in the order in which they are answered.
type Sums = [(&'static str, u64); 4];

/// `/loki/api/v1/index/stats`
pub(super) async fn stats(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let (sums, _) = sums(&querier, &call).await?;
    let mut json = Json::default();
    json.object(|json| write_sums(json, &sums));
    Ok(super::json(json))
}

/// `/loki/api/v1/index/shards`: a query is cut up inside, so to its clients it is one shard.
pub(super) async fn shards(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    const NOT_POSITIVE: &str = "targetBytesPerShard must be a positive value";
    // Checked first, as in Loki; the query is last.
    call.params.range_query(querier.shared.now())?;
    let target = call.params.get("targetBytesPerShard");
    let target = target.and_then(parse_size).filter(|bytes| *bytes > 0);
    if target.is_none() {
        return Err(Error::Invalid(NOT_POSITIVE.into()));
    }
    let (sums, effort) = sums(&querier, &call).await?;
    let mut json = Json::default();
    json.object(|json| {
        json.key("shards").array(|json| {
            json.object(|json| {
                json.key("bounds").object(|json| {
                    json.key("min").int(0);
                    json.key("max").int(u64::MAX);
                });
                json.key("stats").object(|json| write_sums(json, &sums));
            });
        });
        let scan = query::ScanStats::default();
        stats::write(json.key("statistics"), &scan, &effort, 1);
    });
    Ok(super::json(json))
}

async fn sums(querier: &Querier, call: &Call) -> Result<(Sums, Effort), Error> {
    // As Loki, which takes the parameters of a range query here.
    call.params.range_query(querier.shared.now())?;
    let selector = narrow_selector(call, call.params.query())?;
    let range = call.range(querier)?;
    let work = move |source: &TenantsSource, budget: &query::Budget| {
        let mut sums = ["streams", "chunks", "bytes", "entries"].map(|name| (name, 0));
        for (source, selector, _) in source.select(&selector) {
            let streams = source.streams(&selector, range, Wanted::Chunks, budget)?;
            let totals = || streams.totals.values();
            sums[0].1 += totals().len() as u64;
            sums[1].1 += streams.chunks;
            sums[2].1 += totals().map(|total| total.bytes).sum::<u64>();
            sums[3].1 += totals().map(|total| total.records).sum::<u64>();
        }
        Ok(sums)
    };
    call.run(querier, work).await
}

fn write_sums(json: &mut Json, sums: &Sums) {
    for (name, sum) in sums {
        json.key(name).int(*sum);
    }
}

/// What volumes are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grouping {
    /// By these labels of a stream, as far as it has them; empty: by all.
    Matched(Vec<String>),
    /// By these labels of the streams that have them all.
    Targets(Vec<String>),
    /// By label name, whatever the value; of these names, or of all.
    Names(Vec<String>),
}

/// `/loki/api/v1/index/volume`
pub(super) async fn instant(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let range = call.range(&querier)?;
    call.params.direction()?;
    call.params.time(range.end)?;
    let (volumes, effort) = volumes(&querier, &call, range, None).await?;
    respond(&volumes, &effort, &call)
}

/// `/loki/api/v1/index/volume_range`
pub(super) async fn range(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let range = call.range(&querier)?;
    let step = call.params.step(range.start, range.end)?;
    call.params.direction()?;
    call.params.interval()?;
    let (volumes, effort) = volumes(&querier, &call, range, Some(step)).await?;
    respond(&volumes, &effort, &call)
}

/// Labels of a volume, and bytes by the end of the step.
type Volume = (Vec<(String, String)>, Vec<(Timestamp, u64)>);

async fn volumes(
    querier: &Querier,
    call: &Call,
    range: TimeRange,
    step: Option<i64>,
) -> Result<(Vec<Volume>, Effort), Error> {
    let selector = selector(call, call.params.query())?;
    let limit = match call.params.integer("limit")?.unwrap_or(0) {
        0 => VOLUMES_DEFAULT,
        _ => call.params.limit("limit", VOLUMES_DEFAULT)?,
    };
    let grouping = grouping(call, &selector)?;
    let work = move |source: &TenantsSource, budget: &query::Budget| {
        let mut groups: HashMap<Vec<(String, String)>, BTreeMap<Timestamp, u64>> = HashMap::new();
        for (source, selector, tag) in source.select(&selector) {
            let volumes: Volumes = match step {
                None => source
                    .streams(&selector, range, Wanted::Totals, budget)?
                    .volumes(range.end),
                Some(step) => source.volumes(&selector, range, step, budget)?,
            };
            for (labels, by_step) in volumes {
                let labels = match tag {
                    None => labels,
                    Some(tenant) => tagged(&labels, tenant),
                };
                for group in grouping.of(&labels) {
                    let sums = groups.entry(group).or_default();
                    for (at, bytes) in &by_step {
                        *sums.entry(*at).or_default() += bytes;
                    }
                }
            }
        }
        Ok(largest(groups, limit))
    };
    call.run(querier, work).await
}

fn largest(
    groups: HashMap<Vec<(String, String)>, BTreeMap<Timestamp, u64>>,
    limit: u64,
) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = groups
        .into_iter()
        .map(|(labels, sums)| (labels, sums.into_iter().collect()))
        .collect();
    let sum = |volume: &Volume| volume.1.iter().map(|(_, bytes)| bytes).sum::<u64>();
    volumes.sort_by(|a, b| sum(b).cmp(&sum(a)).then_with(|| a.0.cmp(&b.0)));
    volumes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    volumes
}

fn grouping(call: &Call, selector: &Selector) -> Result<Grouping, Error> {
    let targets: Vec<String> = call
        .params
        .get("targetLabels")
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    match call.params.get("aggregateBy") {
        None | Some("series") if targets.is_empty() => {
            let named = selector.matchers.iter().map(|m| m.name.to_string());
            Ok(Grouping::Matched(named.collect()))
        }
        None | Some("series") => Ok(Grouping::Targets(targets)),
        Some("labels") => Ok(Grouping::Names(targets)),
        Some(_) => Err(Error::Invalid("invalid aggregation option".into())),
    }
}

impl Grouping {
    /// The groups in which a stream counts.
    fn of(&self, labels: &Labels) -> Vec<Vec<(String, String)>> {
        let wanted = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted == name)
        };
        match self {
            Grouping::Targets(names) | Grouping::Names(names)
                if names.iter().any(|name| labels.get(name).is_none()) =>
            {
                Vec::new()
            }
            Grouping::Matched(names) | Grouping::Targets(names) => {
                let pairs = labels.iter().filter(|(name, _)| wanted(names, name));
                vec![pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()]
            }
            Grouping::Names(names) => labels
                .iter()
                .filter(|(name, _)| wanted(names, name))
                .map(|(name, _)| vec![(name.to_owned(), String::new())])
                .collect(),
        }
    }
}

fn respond(volumes: &[Volume], effort: &Effort, call: &Call) -> Result<Response, Error> {
    match call.parquet {
        true => {
            let series = volumes.iter();
            parquet::numbers(series.map(|(labels, points)| (labels.as_slice(), points.as_slice())))
        }
        false => Ok(super::json(envelope(volumes, effort))),
    }
}

/// As Loki, a vector unless something has more than one point.
fn envelope(volumes: &[Volume], effort: &Effort) -> Json {
    let result_type = match volumes.iter().any(|(_, points)| points.len() > 1) {
        true => "matrix",
        false => "vector",
    };
    let mut json = Json::default();
    let point = |json: &mut Json, (at, bytes): &(Timestamp, u64)| {
        json.array(|json| {
            json.seconds(*at);
            json.string(&bytes.to_string());
        });
    };
    json.object(|json| {
        json.key("status").string("success");
        json.key("data").object(|json| {
            json.key("resultType").string(result_type);
            json.key("result").array(|json| {
                for (labels, points) in volumes {
                    json.object(|json| {
                        json.key("metric").object(|json| {
                            for (name, value) in labels {
                                json.key(name).line(value.as_bytes());
                            }
                        });
                        match (result_type, points.as_slice()) {
                            ("vector", [only]) => point(json.key("value"), only),
                            (_, points) => json.key("values").array(|json| {
                                for at in points {
                                    point(json, at);
                                }
                            }),
                        }
                    });
                }
            });
            let returned = volumes.len() as u64;
            stats::write(
                json.key("stats"),
                &query::ScanStats::default(),
                effort,
                returned,
            );
        });
    });
    json
}
