//! A second evaluator of metric queries, as slow and plain as can be: for each step it looks at
//! every record, for each window at every row. It knows the operators, and of stages only
//! `|= "text"`, `| logfmt` on lines of plain `key=value` words, and `| unwrap`.

use std::collections::BTreeMap;

use query::logql::ast::{
    Binary, BinaryOp, CompareOp, Expr, GroupSide, Grouping, LineFilterValue, LogRange, MetricExpr,
    RangeAggregation, RangeInput, RangeOp, Stage, VectorOp,
};
use testkit::{MemoryRecord, MemorySource};

pub(crate) type LabelMap = BTreeMap<String, String>;
pub(crate) type Vector = BTreeMap<LabelMap, f64>;

pub(crate) fn eval(source: &MemorySource, expr: &Expr, at: i64) -> Vector {
    match expr {
        Expr::Log(_) => panic!("metric queries only"),
        Expr::Metric(expr) => metric(source, expr, at),
    }
}

fn metric(source: &MemorySource, expr: &MetricExpr, at: i64) -> Vector {
    match expr {
        MetricExpr::Range(range) => range_aggregation(source, range, at),
        MetricExpr::Vector(aggregation) => {
            let input = metric(source, &aggregation.expr, at);
            vector(&aggregation.op, aggregation.grouping.as_ref(), input)
        }
        MetricExpr::Binary(both) => binary(source, both, at),
        MetricExpr::ToVector(value) | MetricExpr::Number(value) => {
            Vector::from([(LabelMap::new(), *value)])
        }
        MetricExpr::LabelReplace { .. } => panic!("not known to the twin"),
    }
}

fn group(labels: &LabelMap, grouping: Option<&Grouping>) -> LabelMap {
    let Some(grouping) = grouping else {
        return LabelMap::new();
    };
    let kept = |name: &String| grouping.labels.contains(name) != grouping.without;
    let pairs = labels.iter().filter(|(name, _)| kept(name));
    pairs.map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Labels and value of a row, if it passes the stages.
fn row(record: &MemoryRecord, range: &LogRange) -> Option<(LabelMap, f64)> {
    let line = std::str::from_utf8(&record.line).unwrap();
    let stream = record
        .labels
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()));
    let mut labels: LabelMap = stream.collect();
    labels.extend(record.metadata.iter().cloned());
    for stage in &range.log.stages {
        match stage {
            Stage::LineFilter(filter) => {
                let [LineFilterValue::Text(text)] = &filter.any[..] else {
                    panic!("not known to the twin");
                };
                if !line.contains(text.as_str()) {
                    return None;
                }
            }
            Stage::Logfmt { .. } => {
                for word in line.split_whitespace() {
                    let (key, value) = word.split_once('=').unwrap();
                    labels.insert(key.into(), value.into());
                }
            }
            _ => panic!("not known to the twin"),
        }
    }
    let value = match &range.unwrap {
        None => line.len() as f64,
        Some(unwrap) => labels.remove(&unwrap.label)?.parse().unwrap(),
    };
    Some((labels, value))
}

/// Samples by series.
type Samples = BTreeMap<LabelMap, Vec<(i64, f64)>>;

fn range_aggregation(source: &MemorySource, range: &RangeAggregation, at: i64) -> Vector {
    let (mut series, length, unwrapped) = match &range.over {
        RangeInput::Logs(logs) => (
            log_samples(source, range, logs, at),
            logs.range,
            logs.unwrap.is_some(),
        ),
        RangeInput::Subquery {
            expr,
            range: length,
            step,
            offset,
        } => {
            let step = step.unwrap();
            let end = at - offset;
            let mut series = Samples::new();
            let mut inner = end.div_euclid(step) * step;
            while inner > end - length {
                for (labels, value) in metric(source, expr, inner) {
                    series.entry(labels).or_default().push((inner, value));
                }
                inner -= step;
            }
            (series, *length, true)
        }
    };
    if range.op == RangeOp::Absent {
        let RangeInput::Logs(logs) = &range.over else {
            panic!("not known to the twin");
        };
        let selector = logs.log.selector.iter();
        let equal = selector.filter(|m| m.value != ".+");
        let labels = equal.map(|m| (m.name.clone(), m.value.clone())).collect();
        return match series.is_empty() {
            true => Vector::from([(labels, 1.0)]),
            false => Vector::new(),
        };
    }
    let seconds = length as f64 / 1e9;
    let offset = match &range.over {
        RangeInput::Logs(logs) => logs.offset,
        RangeInput::Subquery { offset, .. } => *offset,
    };
    for samples in series.values_mut() {
        samples.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    }
    let values = series.into_iter().map(|(labels, samples)| {
        if range.op == RangeOp::RateCounter {
            return (labels, rate_counter(&samples, at - offset, seconds));
        }
        let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
        (labels, window(range, &values, seconds, unwrapped))
    });
    values.collect()
}

fn log_samples(
    source: &MemorySource,
    range: &RangeAggregation,
    logs: &LogRange,
    at: i64,
) -> Samples {
    let end = at - logs.offset;
    let mut series = Samples::new();
    let mut records: Vec<&MemoryRecord> = source.records().iter().collect();
    let identity = |r: &MemoryRecord| {
        let parts = (r.labels.to_string(), r.line.clone(), r.metadata.clone());
        (r.timestamp, parts)
    };
    records.sort_by_key(|record| identity(record));
    records.dedup();
    for record in records {
        let inside = end - logs.range < record.timestamp && record.timestamp <= end;
        let selected = logs.log.selector.iter().all(|matcher| {
            let value = record.labels.get(&matcher.name).unwrap_or("");
            matcher.value == ".+" || value == matcher.value
        });
        if !inside || !selected {
            continue;
        }
        if let Some((labels, value)) = row(record, logs) {
            let labels = match &range.grouping {
                None => labels,
                grouping => group(&labels, grouping.as_ref()),
            };
            let samples = series.entry(labels).or_default();
            samples.push((record.timestamp, value));
        }
    }
    series
}

/// Distances in microseconds and the window in seconds, as Loki has it.
fn rate_counter(samples: &[(i64, f64)], end: i64, seconds: f64) -> f64 {
    if samples.len() < 2 {
        return 0.0;
    }
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    let mut increase = last.1 - first.1;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            increase += pair[0].1;
        }
    }
    let spanned = (last.0 - first.0) as f64 / 1e9;
    let between = spanned / (samples.len() - 1) as f64;
    let reach = |distance: f64| match distance < between * 1.1 {
        true => distance,
        false => between / 2.0,
    };
    let mut start = reach(seconds - (end - first.0) as f64 / 1e9);
    if increase > 0.0 && first.1 >= 0.0 {
        start = start.min(spanned * first.1 / increase);
    }
    let rest = reach((end - last.0) as f64 / 1e9);
    increase * ((spanned + start + rest) / spanned) / seconds
}

fn window(range: &RangeAggregation, values: &[f64], seconds: f64, unwrapped: bool) -> f64 {
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mean = sum / count;
    let variance = || values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
    match range.op {
        RangeOp::Rate if unwrapped => sum / seconds,
        RangeOp::Rate => count / seconds,
        RangeOp::Count => count,
        RangeOp::BytesRate => sum / seconds,
        RangeOp::Bytes | RangeOp::Sum => sum,
        RangeOp::Avg => mean,
        RangeOp::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        RangeOp::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        RangeOp::Stdvar => variance(),
        RangeOp::Stddev => variance().sqrt(),
        RangeOp::Quantile => {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            let rank = range.param.unwrap() * (count - 1.0);
            let (lower, weight) = (rank.floor() as usize, rank - rank.floor());
            let upper = (lower + 1).min(sorted.len() - 1);
            sorted[lower] * (1.0 - weight) + sorted[upper] * weight
        }
        RangeOp::First => values[0],
        RangeOp::Last => values[values.len() - 1],
        RangeOp::RateCounter | RangeOp::Absent => panic!("not known to the twin"),
    }
}

fn vector(op: &VectorOp, grouping: Option<&Grouping>, input: Vector) -> Vector {
    let mut groups: BTreeMap<LabelMap, Vec<(LabelMap, f64)>> = BTreeMap::new();
    for (labels, value) in input {
        let members = groups.entry(group(&labels, grouping)).or_default();
        members.push((labels, value));
    }
    let mut out = Vector::new();
    for (labels, mut members) in groups {
        let count = members.len() as f64;
        let sum: f64 = members.iter().map(|(_, v)| v).sum();
        let values = members.iter().map(|(_, v)| *v);
        let value = match op {
            VectorOp::Sum => sum,
            VectorOp::Avg => sum / count,
            VectorOp::Count => count,
            VectorOp::Max => values.fold(f64::NEG_INFINITY, f64::max),
            VectorOp::Min => values.fold(f64::INFINITY, f64::min),
            VectorOp::Stdvar => values.map(|v| (v - sum / count).powi(2)).sum::<f64>() / count,
            VectorOp::TopK(k) => {
                members.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                out.extend(members.into_iter().take(*k as usize));
                continue;
            }
            VectorOp::BottomK(k) => {
                members.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
                out.extend(members.into_iter().take(*k as usize));
                continue;
            }
            _ => panic!("not known to the twin"),
        };
        out.insert(labels, value);
    }
    out
}

fn binary(source: &MemorySource, both: &Binary, at: i64) -> Vector {
    if let MetricExpr::Number(number) = both.rhs {
        let lhs = metric(source, &both.lhs, at).into_iter();
        return lhs
            .filter_map(|(labels, value)| Some((labels, sample(both, value, number)?)))
            .collect();
    }
    let (lhs, rhs) = (metric(source, &both.lhs, at), metric(source, &both.rhs, at));
    let signature = |labels: &LabelMap| match &both.matching {
        None => labels.clone(),
        Some(matching) => {
            let grouping = Grouping {
                without: !matching.on,
                labels: matching.labels.clone(),
            };
            group(labels, Some(&grouping))
        }
    };
    let keeps_all = both.matching.as_ref().is_none_or(|m| m.group.is_some());
    let mut out = Vector::new();
    if both.op == BinaryOp::Or {
        out = rhs.clone();
        out.retain(|labels, _| !lhs.keys().any(|l| signature(l) == signature(labels)));
    }
    for (labels, value) in lhs {
        let partner = rhs.iter().find(|(r, _)| signature(r) == signature(&labels));
        match (both.op, partner) {
            (BinaryOp::And, Some(_)) | (BinaryOp::Unless, None) | (BinaryOp::Or, _) => {
                out.insert(labels, value);
            }
            (BinaryOp::And, None) | (BinaryOp::Unless, Some(_)) | (_, None) => {}
            (_, Some((_, right))) => {
                assert!(!matches!(
                    both.matching.as_ref().and_then(|m| m.group.as_ref()),
                    Some(GroupSide::Right(_))
                ));
                let labels = if keeps_all {
                    labels
                } else {
                    signature(&labels)
                };
                if let Some(value) = sample(both, value, *right) {
                    out.insert(labels, value);
                }
            }
        }
    }
    out
}

fn sample(both: &Binary, a: f64, b: f64) -> Option<f64> {
    let holds = match both.op {
        BinaryOp::Add => return Some(a + b),
        BinaryOp::Sub => return Some(a - b),
        BinaryOp::Mul => return Some(a * b),
        BinaryOp::Div if b == 0.0 => return Some(f64::NAN),
        BinaryOp::Div => return Some(a / b),
        BinaryOp::Compare(CompareOp::Greater) => a > b,
        BinaryOp::Compare(CompareOp::LessOrEqual) => a <= b,
        _ => panic!("not known to the twin"),
    };
    match both.returns_bool {
        true => Some(f64::from(u8::from(holds))),
        false => holds.then_some(a),
    }
}
