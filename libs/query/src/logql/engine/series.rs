use hashbrown::HashMap;

use super::labels::LabelSet;

/// One value or none for each step of a query. What is not present has a meaningless value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Points {
    /// Of a query of one step, which may have very many series: nothing on the heap.
    One([f64; 1], [bool; 1]),
    Many(Vec<f64>, Vec<bool>),
}

/// A series while it is being computed.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) labels: LabelSet,
    pub(super) points: Points,
}

/// What an expression evaluates to at every step.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// The same number at every step.
    Scalar(f64),
    /// Series, in order of labels unless the expression sorts. No point twice: series of equal
    /// labels share no step.
    Rows(Vec<Row>),
}

impl Points {
    /// No value at any of `steps` steps.
    pub(super) fn empty(steps: usize) -> Self {
        Points::filled(steps, 0.0, false)
    }

    /// The same value at every step.
    pub(super) fn constant(steps: usize, value: f64) -> Self {
        Points::filled(steps, value, true)
    }

    fn filled(steps: usize, value: f64, present: bool) -> Self {
        match steps {
            1 => Points::One([value], [present]),
            _ => Points::Many(vec![value; steps], vec![present; steps]),
        }
    }

    /// Values, and which of them are present.
    fn parts(&self) -> (&[f64], &[bool]) {
        match self {
            Points::One(values, present) => (values, present),
            Points::Many(values, present) => (values, present),
        }
    }

    fn parts_mut(&mut self) -> (&mut [f64], &mut [bool]) {
        match self {
            Points::One(values, present) => (values, present),
            Points::Many(values, present) => (values, present),
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.parts().0.len()
    }

    pub(super) fn get(&self, step: usize) -> Option<f64> {
        let (values, present) = self.parts();
        present[step].then(|| values[step])
    }

    pub(super) fn set(&mut self, step: usize, value: f64) {
        let (values, present) = self.parts_mut();
        values[step] = value;
        present[step] = true;
    }

    pub(super) fn unset(&mut self, step: usize) {
        self.parts_mut().1[step] = false;
    }

    pub(super) fn has(&self, step: usize) -> bool {
        self.parts().1[step]
    }

    /// Whether no step has a value.
    pub(super) fn is_empty(&self) -> bool {
        !self.parts().1.contains(&true)
    }

    /// The steps that have a value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        let (values, present) = self.parts();
        let both = present.iter().zip(values).enumerate();
        both.filter_map(|(step, (present, value))| present.then_some((step, *value)))
    }

    /// Replaces each value; `None` takes it away.
    pub(super) fn update(&mut self, mut f: impl FnMut(usize, f64) -> Option<f64>) {
        let (values, present) = self.parts_mut();
        let both = values.iter_mut().zip(present).enumerate();
        for (step, (value, present)) in both.filter(|(_, (_, present))| **present) {
            match f(step, *value) {
                Some(updated) => *value = updated,
                None => *present = false,
            }
        }
    }

    /// Bytes that points over so many steps take.
    pub(super) fn memory_bytes(steps: usize) -> u64 {
        (steps as u64).saturating_mul((size_of::<f64>() + size_of::<bool>()) as u64)
    }
}

impl Row {
    /// Bytes to charge for a row of these labels.
    pub(super) fn memory_bytes(labels: &LabelSet, steps: usize) -> u64 {
        labels.memory_bytes() as u64 + Points::memory_bytes(steps)
    }
}

/// What the rows of a result are charged to the budget, as long as they are held.
pub(super) fn rows_memory_bytes(rows: &[Row]) -> u64 {
    let bytes = rows
        .iter()
        .map(|row| Row::memory_bytes(&row.labels, row.points.steps()));
    bytes.sum()
}

impl Operand {
    /// What the operand is charged to the budget.
    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Operand::Scalar(_) => 0,
            Operand::Rows(rows) => rows_memory_bytes(rows),
        }
    }
}

/// Collects points under labels that several inputs may give.
#[derive(Debug)]
pub(super) struct RowMap {
    steps: usize,
    index: HashMap<LabelSet, usize>,
    rows: Vec<Row>,
}

impl RowMap {
    pub(super) fn new(steps: usize) -> Self {
        RowMap {
            steps,
            index: HashMap::new(),
            rows: Vec::new(),
        }
    }

    /// The points under these labels, none at first.
    pub(super) fn points(&mut self, labels: &LabelSet) -> &mut Points {
        let at = match self.index.get(labels) {
            Some(at) => *at,
            None => {
                let at = self.rows.len();
                self.index.insert(labels.clone(), at);
                self.rows.push(Row {
                    labels: labels.clone(),
                    points: Points::empty(self.steps),
                });
                at
            }
        };
        &mut self.rows[at].points
    }

    /// All rows with a value anywhere, by labels.
    pub(super) fn into_rows(self) -> Vec<Row> {
        let mut rows = self.rows;
        rows.retain(|row| !row.points.is_empty());
        sort_rows(&mut rows);
        rows
    }
}

/// Puts rows in order of their labels.
pub(super) fn sort_rows(rows: &mut [Row]) {
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
}
