//! Aggregations over the series of one step, a whole series at a time.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::super::ast::{Grouping, VectorAggregation, VectorOp};
use super::labels::LabelSet;
use super::series::{Points, Row, RowMap, sort_rows};

/// Applies a vector aggregation. `rows` in order of labels, so that sums do not depend on how the
/// series were found.
pub(super) fn aggregate(aggregation: &VectorAggregation, rows: Vec<Row>, steps: usize) -> Vec<Row> {
    if let Some(mut folder) = Folder::new(aggregation, steps) {
        for row in rows {
            folder.add(&row);
        }
        return folder.finish();
    }
    let grouping = aggregation.grouping.as_ref();
    match &aggregation.op {
        VectorOp::TopK(k) | VectorOp::ApproxTopK(k) => {
            select(rows, grouping, *k, steps, descending)
        }
        VectorOp::BottomK(k) => select(rows, grouping, *k, steps, ascending),
        VectorOp::SortDesc => sort_by_value(rows, descending),
        VectorOp::CountValues(label) => count_values(label, grouping, rows, steps),
        _ => sort_by_value(rows, ascending),
    }
}

/// An aggregation that takes series one by one: `sum`, `avg`, `count`, `min`, `max`, `stddev`,
/// `stdvar`.
pub(super) struct Folder<'q> {
    op: &'q VectorOp,
    grouping: Option<&'q Grouping>,
    steps: usize,
    groups: Vec<Group>,
    /// Groups by key, once keys do not come in order: where series are groups already they do.
    index: Option<HashMap<LabelSet, usize>>,
}

/// The running state of one group, one entry per step.
struct Group {
    key: LabelSet,
    labels: LabelSet,
    points: Points,
    counts: Vec<f64>,
    /// Means, for what needs them beside the value.
    means: Vec<f64>,
}

impl<'q> Folder<'q> {
    /// `None` if the aggregation needs all series at once.
    pub(super) fn new(aggregation: &'q VectorAggregation, steps: usize) -> Option<Self> {
        let folds = match &aggregation.op {
            VectorOp::Sum
            | VectorOp::Avg
            | VectorOp::Count
            | VectorOp::Max
            | VectorOp::Min
            | VectorOp::Stddev
            | VectorOp::Stdvar => true,
            VectorOp::TopK(_)
            | VectorOp::BottomK(_)
            | VectorOp::ApproxTopK(_)
            | VectorOp::Sort
            | VectorOp::SortDesc
            | VectorOp::CountValues(_) => false,
        };
        folds.then(|| Folder {
            op: &aggregation.op,
            grouping: aggregation.grouping.as_ref(),
            steps,
            groups: Vec::new(),
            index: None,
        })
    }

    /// Adds a series. Series must come in order of labels. Returns by how many bytes the state
    /// grew.
    pub(super) fn add(&mut self, row: &Row) -> u64 {
        let key = row.labels.group_key(self.grouping);
        let mut grown = 0;
        let at = match self.find(&key) {
            Some(at) => at,
            None => {
                let at = self.groups.len();
                if let Some(index) = &mut self.index {
                    index.insert(key.clone(), at);
                }
                let group = Group::new(self.op, self.grouping, key, self.steps);
                grown = group.memory_bytes();
                self.groups.push(group);
                at
            }
        };
        for (step, value) in row.points.iter() {
            add(self.op, &mut self.groups[at], step, value);
        }
        grown
    }

    fn find(&mut self, key: &LabelSet) -> Option<usize> {
        if self.index.is_none() {
            let last = self.groups.last()?;
            match key.cmp(&last.key) {
                Ordering::Greater => return None,
                Ordering::Equal => return Some(self.groups.len() - 1),
                Ordering::Less => {}
            }
        }
        let index = self.index.get_or_insert_with(|| {
            let keys = self.groups.iter().map(|group| group.key.clone());
            keys.zip(0..).collect()
        });
        index.get(key).copied()
    }

    /// The groups, by labels.
    pub(super) fn finish(self) -> Vec<Row> {
        let groups = self.groups.into_iter();
        let mut rows: Vec<Row> = groups.map(|group| finish(self.op, group)).collect();
        sort_rows(&mut rows);
        rows
    }
}

impl Group {
    fn new(op: &VectorOp, grouping: Option<&Grouping>, key: LabelSet, steps: usize) -> Self {
        let needs_counts = matches!(op, VectorOp::Avg | VectorOp::Stddev | VectorOp::Stdvar);
        let side = || vec![0.0; if needs_counts { steps } else { 0 }];
        Group {
            labels: key.clone().of_group(grouping),
            key,
            points: Points::empty(steps),
            counts: side(),
            means: side(),
        }
    }

    fn memory_bytes(&self) -> u64 {
        let sides = (self.counts.len() + self.means.len()) * size_of::<f64>();
        Row::memory_bytes(&self.labels, self.points.steps()) + sides as u64
    }
}

fn add(op: &VectorOp, group: &mut Group, step: usize, value: f64) {
    let so_far = group.points.get(step);
    let next = match (op, so_far) {
        (VectorOp::Sum, Some(sum)) => sum + value,
        (VectorOp::Count, Some(count)) => count + 1.0,
        (VectorOp::Count, None) => 1.0,
        (VectorOp::Max, Some(max)) if !(max < value || max.is_nan()) => max,
        (VectorOp::Min, Some(min)) if !(min > value || min.is_nan()) => min,
        (VectorOp::Avg, so_far) => {
            group.counts[step] += 1.0;
            let mean = so_far.unwrap_or(0.0);
            match mean.is_infinite() {
                true if mean == value || value.is_finite() => mean,
                _ => mean + (value - mean) / group.counts[step],
            }
        }
        // Whatever the first value is, also NaN, it is no distance from itself.
        (VectorOp::Stddev | VectorOp::Stdvar, None) => {
            group.counts[step] = 1.0;
            group.means[step] = value;
            0.0
        }
        (VectorOp::Stddev | VectorOp::Stdvar, so_far) => {
            group.counts[step] += 1.0;
            let delta = value - group.means[step];
            group.means[step] += delta / group.counts[step];
            so_far.unwrap_or(0.0) + delta * (value - group.means[step])
        }
        _ => value,
    };
    group.points.set(step, next);
}

fn finish(op: &VectorOp, mut group: Group) -> Row {
    match op {
        VectorOp::Stdvar => group
            .points
            .update(|step, squares| Some(squares / group.counts[step])),
        VectorOp::Stddev => group
            .points
            .update(|step, squares| Some((squares / group.counts[step]).sqrt())),
        _ => {}
    }
    Row {
        labels: group.labels,
        points: group.points,
    }
}

/// The groups, each with the rows that belong to it, in order of first appearance.
fn group_rows(rows: &[Row], grouping: Option<&Grouping>) -> Vec<(LabelSet, Vec<usize>)> {
    let by_nothing = grouping.is_none_or(|by| !by.without && by.labels.is_empty());
    if by_nothing && !rows.is_empty() {
        return vec![(LabelSet::default(), (0..rows.len()).collect())];
    }
    let mut index: HashMap<LabelSet, usize> = HashMap::new();
    let mut groups: Vec<(LabelSet, Vec<usize>)> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let key = row.labels.group_key(grouping);
        match index.get(&key) {
            Some(group) => groups[*group].1.push(at),
            None => {
                index.insert(key.clone(), groups.len());
                groups.push((key, vec![at]));
            }
        }
    }
    groups
}

/// `topk` and `bottomk`: at each step the k best of each group keep their value. Of equal values
/// the first by labels wins.
fn select(
    mut rows: Vec<Row>,
    grouping: Option<&Grouping>,
    k: i64,
    steps: usize,
    order: fn(f64, f64) -> Ordering,
) -> Vec<Row> {
    let k = usize::try_from(k).unwrap_or(0);
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for (_, members) in group_rows(&rows, grouping) {
        for step in 0..steps {
            candidates.clear();
            candidates.extend(members.iter().filter_map(|&member| {
                let value = rows[member].points.get(step)?;
                Some((value, member))
            }));
            if candidates.len() <= k {
                continue;
            }
            candidates
                .select_nth_unstable_by(k, |a, b| order(a.0, b.0).then_with(|| a.1.cmp(&b.1)));
            for (_, member) in &candidates[k..] {
                rows[*member].points.unset(step);
            }
        }
    }
    rows.retain(|row| !row.points.is_empty());
    if steps == 1 {
        return sort_by_value(rows, order);
    }
    rows
}

/// Orders the series of an instant query; a matrix is ordered by labels in the end.
fn sort_by_value(mut rows: Vec<Row>, order: fn(f64, f64) -> Ordering) -> Vec<Row> {
    if rows.iter().all(|row| row.points.steps() == 1) {
        let value = |row: &Row| row.points.get(0).unwrap_or(f64::NAN);
        rows.sort_by(|a, b| order(value(a), value(b)).then_with(|| a.labels.cmp(&b.labels)));
    }
    rows
}

/// Smallest first, NaN last.
fn ascending(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// Largest first, NaN last.
fn descending(a: f64, b: f64) -> Ordering {
    match b.partial_cmp(&a) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

fn count_values(
    label: &str,
    grouping: Option<&Grouping>,
    rows: Vec<Row>,
    steps: usize,
) -> Vec<Row> {
    let mut out = RowMap::new(steps);
    for row in rows {
        let mut labels = row.labels.group(grouping);
        for (step, value) in row.points.iter() {
            labels.set(label, &format_value(value));
            let points = out.points(&labels);
            let count = points.get(step).unwrap_or(0.0);
            points.set(step, count + 1.0);
        }
    }
    out.into_rows()
}

/// The shortest text that reads back as the same number, never with an exponent.
fn format_value(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::ast::MetricExpr;
    use super::*;

    fn row(app: &str, pod: &str, value: f64) -> Row {
        Row {
            labels: LabelSet::new([("app", app), ("pod", pod)]),
            points: Points::constant(1, value),
        }
    }

    fn aggregation(op: VectorOp, grouping: Option<Grouping>) -> VectorAggregation {
        VectorAggregation {
            op,
            expr: Box::new(MetricExpr::Number(0.0)),
            grouping,
        }
    }

    fn check(op: VectorOp, by: Option<&[&str]>, want: &str) {
        let rows = vec![
            row("a", "1", 1.0),
            row("a", "2", 3.0),
            row("a", "3", 8.0),
            row("b", "1", 5.0),
        ];
        let grouping = by.map(|labels| Grouping {
            without: false,
            labels: labels.iter().map(|l| l.to_string()).collect(),
        });
        let out = aggregate(&aggregation(op.clone(), grouping), rows, 1);
        let got: Vec<String> = out
            .iter()
            .map(|row| format!("{} {}", row.labels, row.points.get(0).unwrap()))
            .collect();
        assert_eq!(got.join("; "), want, "{op:?}");
    }

    #[test]
    fn folds_are_taken_over_each_group() {
        let by = Some(&["app"][..]);
        check(VectorOp::Sum, by, r#"{app="a"} 12; {app="b"} 5"#);
        check(VectorOp::Sum, None, "{} 17");
        check(VectorOp::Avg, by, r#"{app="a"} 4; {app="b"} 5"#);
        check(VectorOp::Count, by, r#"{app="a"} 3; {app="b"} 1"#);
        check(VectorOp::Max, by, r#"{app="a"} 8; {app="b"} 5"#);
        check(VectorOp::Min, by, r#"{app="a"} 1; {app="b"} 5"#);
        let stdvar = r#"{app="a"} 8.666666666666666; {app="b"} 0"#;
        check(VectorOp::Stdvar, by, stdvar);
        let stddev = r#"{app="a"} 2.943920288775949; {app="b"} 0"#;
        check(VectorOp::Stddev, by, stddev);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn groups_are_summed_in_whichever_order_their_keys_come(
            sets in prop::collection::btree_set(("[ab]?", "[xyz]?", "[12]?"), 0..20),
            without in any::<bool>(),
            labels in proptest::sample::subsequence(vec!["app", "pod", "zone"], 0..4),
        ) {
            let grouping = Grouping {
                without,
                labels: labels.iter().map(|label| label.to_string()).collect(),
            };
            let sets = sets.iter().map(|(app, pod, zone)| {
                LabelSet::new([("app", &**app), ("pod", pod), ("zone", zone)])
            });
            let rows: Vec<Row> = sets.zip(1..).map(|(labels, value)| Row {
                labels,
                points: Points::constant(1, f64::from(value)),
            }).collect();
            // What labels stay, found one by one.
            let mut want: std::collections::BTreeMap<LabelSet, f64> = Default::default();
            for row in &rows {
                let kept = row.labels.iter().filter(|(name, value)| {
                    labels.contains(name) != without && !(without && value.is_empty())
                });
                *want.entry(LabelSet::new(kept)).or_default() += row.points.get(0).unwrap();
            }
            let out = aggregate(&aggregation(VectorOp::Sum, Some(grouping)), rows, 1);
            let got: Vec<(LabelSet, f64)> = out.into_iter().map(|row| {
                let value = row.points.get(0).unwrap();
                (row.labels, value)
            }).collect();
            prop_assert_eq!(got, want.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn topk_keeps_all_labels_and_orders_an_instant_by_value() {
        check(
            VectorOp::TopK(2),
            None,
            r#"{app="a", pod="3"} 8; {app="b", pod="1"} 5"#,
        );
        check(
            VectorOp::BottomK(1),
            Some(&["app"]),
            r#"{app="a", pod="1"} 1; {app="b", pod="1"} 5"#,
        );
    }

    #[test]
    fn count_values_makes_a_label_of_the_value() {
        check(
            VectorOp::CountValues("v".into()),
            Some(&["pod"]),
            r#"{pod="1", v="1"} 1; {pod="1", v="5"} 1; {pod="2", v="3"} 1; {pod="3", v="8"} 1"#,
        );
    }

    #[test]
    fn nan_is_never_the_best_and_sorts_last() {
        let rows = vec![row("a", "1", f64::NAN), row("a", "2", 1.0)];
        let top = aggregate(&aggregation(VectorOp::TopK(1), None), rows.clone(), 1);
        assert_eq!(top[0].points.get(0), Some(1.0));
        let max = aggregate(&aggregation(VectorOp::Max, None), rows.clone(), 1);
        assert_eq!(max[0].points.get(0), Some(1.0));
        let sorted = aggregate(&aggregation(VectorOp::SortDesc, None), rows, 1);
        assert_eq!(sorted[0].points.get(0), Some(1.0));
    }
}
