//! Which series of two sides meet, with the rules of Prometheus.

use hashbrown::HashMap;

use super::super::ast::{Binary, BinaryOp, GroupSide, VectorMatching};
use super::EngineError;
use super::binary;
use super::labels::LabelSet;
use super::series::{Row, RowMap, sort_rows};

/// The side of a join on which labels must be unique.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OneSide {
    Left,
    Right,
}

/// `and`, `or`, `unless`.
pub(super) fn set_operation(
    op: BinaryOp,
    matching: Option<&VectorMatching>,
    mut lhs: Vec<Row>,
    mut rhs: Vec<Row>,
    steps: usize,
) -> Vec<Row> {
    match op {
        BinaryOp::And | BinaryOp::Unless => {
            let present = presence(&rhs, matching, steps);
            let wanted = op == BinaryOp::And;
            retain_where(&mut lhs, matching, &present, wanted);
            lhs
        }
        _ => {
            let present = presence(&lhs, matching, steps);
            retain_where(&mut rhs, matching, &present, false);
            if rhs.is_empty() {
                return lhs;
            }
            // Series of equal labels stay apart, as `label_replace` may have made them: each
            // step shows all of them.
            lhs.append(&mut rhs);
            sort_rows(&mut lhs);
            lhs
        }
    }
}

/// At which steps any series of a signature has a value.
fn presence(
    rows: &[Row],
    matching: Option<&VectorMatching>,
    steps: usize,
) -> HashMap<LabelSet, Vec<bool>> {
    let mut present: HashMap<LabelSet, Vec<bool>> = HashMap::new();
    for row in rows {
        let at = present
            .entry(signature(&row.labels, matching))
            .or_insert_with(|| vec![false; steps]);
        for (step, _) in row.points.iter() {
            at[step] = true;
        }
    }
    present
}

/// Keeps the points at whose step the other side is (or is not) present.
fn retain_where(
    rows: &mut Vec<Row>,
    matching: Option<&VectorMatching>,
    present: &HashMap<LabelSet, Vec<bool>>,
    wanted: bool,
) {
    for row in rows.iter_mut() {
        let at = present.get(&signature(&row.labels, matching));
        row.points.update(|step, value| {
            let there = at.is_some_and(|at| at[step]);
            (there == wanted).then_some(value)
        });
    }
    rows.retain(|row| !row.points.is_empty());
}

fn signature(labels: &LabelSet, matching: Option<&VectorMatching>) -> LabelSet {
    let labels = match matching {
        None => labels.clone(),
        Some(matching) => labels.project(&matching.labels, matching.on),
    };
    labels.without_empty()
}

/// Arithmetic and comparisons between series.
pub(super) fn join(
    binary: &Binary,
    lhs: Vec<Row>,
    rhs: Vec<Row>,
    steps: usize,
) -> Result<Vec<Row>, EngineError> {
    let matching = binary.matching.as_ref();
    let group = matching.and_then(|m| m.group.as_ref());
    let one_side = match group {
        Some(GroupSide::Right(_)) => OneSide::Left,
        _ => OneSide::Right,
    };
    let (many, one) = match one_side {
        OneSide::Right => (&lhs, &rhs),
        OneSide::Left => (&rhs, &lhs),
    };
    let ones = by_signature(one, matching);
    for members in ones.values() {
        refuse_duplicates(one, members, one_side, steps)?;
    }
    let manys = by_signature(many, matching);
    let mut signatures: Vec<&LabelSet> = manys.keys().filter(|s| ones.contains_key(*s)).collect();
    signatures.sort();
    let mut out = RowMap::new(steps);
    for signature in signatures {
        let mut met = Met::default();
        for &many_at in &manys[signature] {
            for &one_at in &ones[signature] {
                let pair = (&many[many_at], &one[one_at]);
                join_pair(binary, one_side, pair, &mut met, &mut out)?;
            }
        }
    }
    Ok(out.into_rows())
}

fn by_signature(rows: &[Row], matching: Option<&VectorMatching>) -> HashMap<LabelSet, Vec<usize>> {
    let mut index: HashMap<LabelSet, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        let members = index.entry(signature(&row.labels, matching)).or_default();
        members.push(at);
    }
    index
}

fn refuse_duplicates(
    one: &[Row],
    members: &[usize],
    side: OneSide,
    steps: usize,
) -> Result<(), EngineError> {
    if members.len() < 2 {
        return Ok(());
    }
    let there = |step: usize| {
        let there = members.iter().filter(|&&at| one[at].points.has(step));
        there.count()
    };
    if (0..steps).any(|step| there(step) > 1) {
        let side = match side {
            OneSide::Left => "left",
            OneSide::Right => "right",
        };
        return Err(EngineError::Invalid(format!(
            "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be unique on one side"
        )));
    }
    Ok(())
}

/// Which results one signature has given already, per step.
#[derive(Default)]
struct Met {
    by_labels: HashMap<LabelSet, Vec<bool>>,
}

fn join_pair(
    binary: &Binary,
    one_side: OneSide,
    (many, one): (&Row, &Row),
    met: &mut Met,
    out: &mut RowMap,
) -> Result<(), EngineError> {
    let matching = binary.matching.as_ref();
    let grouped = matching.is_some_and(|m| m.group.is_some());
    let labels = result_labels(&many.labels, &one.labels, matching).without_empty();
    // One to one: all series of a signature have the same result labels but for what a filter
    // without `on`/`ignoring` keeps, and there signatures are unique anyway.
    let key = if grouped {
        labels.clone()
    } else {
        LabelSet::default()
    };
    let steps = many.points.steps();
    let seen = met
        .by_labels
        .entry(key)
        .or_insert_with(|| vec![false; steps]);
    let mut values: Vec<(usize, f64)> = Vec::new();
    for (step, many_value) in many.points.iter() {
        let Some(one_value) = one.points.get(step) else {
            continue;
        };
        if std::mem::replace(&mut seen[step], true) {
            return Err(EngineError::Invalid(multiple_matches(grouped).into()));
        }
        let (lhs, rhs) = match one_side {
            OneSide::Right => (many_value, one_value),
            OneSide::Left => (one_value, many_value),
        };
        if let Some(value) = binary::sample(binary, lhs, lhs, rhs) {
            values.push((step, value));
        }
    }
    if !values.is_empty() {
        let points = out.points(&labels);
        for (step, value) in values {
            points.set(step, value);
        }
    }
    Ok(())
}

fn multiple_matches(grouped: bool) -> &'static str {
    if grouped {
        "multiple matches for labels: grouping labels must ensure unique matches"
    } else {
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    }
}

fn result_labels(many: &LabelSet, one: &LabelSet, matching: Option<&VectorMatching>) -> LabelSet {
    let Some(matching) = matching else {
        return many.clone();
    };
    let include = match &matching.group {
        None => return many.project(&matching.labels, matching.on),
        Some(GroupSide::Left(include) | GroupSide::Right(include)) => include,
    };
    let mut labels = many.clone();
    for name in include {
        match one.get(name) {
            Some(value) if !value.is_empty() => labels.set(name, value),
            _ => labels.remove(name),
        }
    }
    labels
}
