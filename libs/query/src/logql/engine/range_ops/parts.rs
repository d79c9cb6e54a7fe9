use model::Timestamp;

use super::super::super::ast::RangeOp;
use super::super::share::{Reader, Writer};
use super::{Finish, Part};

/// How many rows, and how many bytes their lines have.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Tally {
    rows: u64,
    bytes: u64,
}

/// How many numbers, and their sum.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Total {
    rows: u64,
    sum: Wide,
}

/// How many numbers, their sum and the sum of their squares, and between which numbers they are.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Moments {
    rows: u64,
    sum: Wide,
    squares: Wide,
    least: f64,
    most: f64,
}

impl Moments {
    fn widen(&mut self, least: f64, most: f64) {
        let first = self.rows == 0;
        self.least = if first { least } else { self.least.min(least) };
        self.most = if first { most } else { self.most.max(most) };
    }

    /// Whether all are one number, whose square and whose sum may be too large to be told.
    fn are_equal(&self) -> bool {
        self.least == self.most && self.least.is_finite() && !self.squares.high.is_nan()
    }
}

/// The largest number; NaN only when all are.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Largest(Option<f64>);

/// The smallest number; NaN only when all are.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Smallest(Option<f64>);

/// The number of the earliest row; of several the smallest.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Earliest(Option<(Timestamp, f64)>);

/// The number of the latest row; of several the largest.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Latest(Option<(Timestamp, f64)>);

/// A sum as two floats: `high` is the sum rounded, `low` what rounding took away (Dekker 1971).
#[derive(Clone, Copy, Debug, Default)]
struct Wide {
    high: f64,
    low: f64,
}

impl Wide {
    fn add(&mut self, high: f64, low: f64) {
        let sum = self.high + high;
        let back = sum - self.high;
        let error = (self.high - (sum - back)) + (high - back) + self.low + low;
        self.high = sum + error;
        self.low = error - (self.high - sum);
        if !self.high.is_finite() || !self.low.is_finite() {
            *self = Wide {
                high: sum,
                low: 0.0,
            };
        }
    }

    fn add_square(&mut self, value: f64) {
        let square = value * value;
        self.add(square, value.mul_add(value, -square));
    }

    fn add_wide(&mut self, other: &Wide) {
        self.add(other.high, other.low);
    }

    fn save(&self, out: &mut Writer) {
        out.f64(self.high);
        out.f64(self.low);
    }

    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Some(Wide {
            high: from.f64()?,
            low: from.f64()?,
        })
    }
}

impl Part for Tally {
    fn add(&mut self, _at: Timestamp, value: f64) {
        self.rows += 1;
        // Subqueries bring values of any size, infinite ones too.
        self.bytes = self.bytes.saturating_add(value as u64);
    }

    fn add_many(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn save(&self, out: &mut Writer) {
        out.number(self.rows);
        out.number(self.bytes);
    }

    fn load(from: &mut Reader<'_>) -> Option<Self> {
        let (rows, bytes) = (from.number()?, from.number()?);
        Some(Tally { rows, bytes })
    }

    fn value(&self, finish: &Finish) -> Option<f64> {
        if self.rows == 0 {
            return None;
        }
        let (rows, bytes) = (self.rows as f64, self.bytes as f64);
        Some(match finish.op {
            RangeOp::Rate => rows / finish.seconds(),
            RangeOp::BytesRate => bytes / finish.seconds(),
            RangeOp::Bytes => bytes,
            RangeOp::Absent => 1.0,
            _ => rows,
        })
    }
}

impl Part for Total {
    fn add(&mut self, _at: Timestamp, value: f64) {
        self.rows += 1;
        self.sum.add(value, 0.0);
    }

    fn add_many(&mut self, rows: u64, _bytes: u64) {
        self.rows += rows;
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum.add_wide(&other.sum);
    }

    fn save(&self, out: &mut Writer) {
        out.number(self.rows);
        self.sum.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Option<Self> {
        let (rows, sum) = (from.number()?, Wide::load(from)?);
        Some(Total { rows, sum })
    }

    fn value(&self, finish: &Finish) -> Option<f64> {
        if self.rows == 0 {
            return None;
        }
        Some(match finish.op {
            RangeOp::Avg => self.sum.high / self.rows as f64,
            RangeOp::Rate => self.sum.high / finish.seconds(),
            _ => self.sum.high,
        })
    }
}

impl Part for Moments {
    fn add(&mut self, _at: Timestamp, value: f64) {
        self.widen(value, value);
        self.rows += 1;
        self.sum.add(value, 0.0);
        self.squares.add_square(value);
    }

    fn add_many(&mut self, rows: u64, _bytes: u64) {
        self.rows += rows;
    }

    fn merge(&mut self, other: &Self) {
        if other.rows > 0 {
            self.widen(other.least, other.most);
        }
        self.rows += other.rows;
        self.sum.add_wide(&other.sum);
        self.squares.add_wide(&other.squares);
    }

    fn save(&self, out: &mut Writer) {
        out.number(self.rows);
        self.sum.save(out);
        self.squares.save(out);
        out.f64(self.least);
        out.f64(self.most);
    }

    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Some(Moments {
            rows: from.number()?,
            sum: Wide::load(from)?,
            squares: Wide::load(from)?,
            least: from.f64()?,
            most: from.f64()?,
        })
    }

    fn value(&self, finish: &Finish) -> Option<f64> {
        if self.rows == 0 {
            return None;
        }
        let count = self.rows as f64;
        let variance = if self.are_equal() {
            0.0
        } else if self.squares.high.is_infinite() && self.sum.high.is_finite() {
            // The values are finite, their squares are not: so far apart are they.
            f64::INFINITY
        } else {
            // squares - sum * mean, in twice the precision: what is left may be tiny beside them.
            let mean = self.sum.high / count;
            let mean_low = (-mean).mul_add(count, self.sum.high) / count + self.sum.low / count;
            let mut rest = self.squares;
            let product = self.sum.high * mean;
            rest.add(-product, -self.sum.high.mul_add(mean, -product));
            rest.add(-self.sum.high * mean_low, -self.sum.low * mean);
            let variance = rest.high / count;
            if variance < 0.0 { 0.0 } else { variance }
        };
        Some(match finish.op {
            RangeOp::Stddev => variance.sqrt(),
            _ => variance,
        })
    }
}

macro_rules! extreme {
    ($part:ident, $better:tt) => {
        impl Part for $part {
            fn add(&mut self, _at: Timestamp, value: f64) {
                match self.0 {
                    Some(best) if !(value $better best || best.is_nan()) => {}
                    _ => self.0 = Some(value),
                }
            }

            fn add_many(&mut self, _rows: u64, _bytes: u64) {}

            fn merge(&mut self, other: &Self) {
                if let Some(value) = other.0 {
                    self.add(0, value);
                }
            }

            fn save(&self, out: &mut Writer) {
                out.option(self.0, Writer::f64);
            }

            fn load(from: &mut Reader<'_>) -> Option<Self> {
                from.option(Reader::f64).map($part)
            }

            fn value(&self, _finish: &Finish) -> Option<f64> {
                self.0
            }
        }
    };
}

extreme!(Largest, >);
extreme!(Smallest, <);

macro_rules! edge {
    ($part:ident, $better:ident) => {
        impl Part for $part {
            fn add(&mut self, at: Timestamp, value: f64) {
                let theirs = (at, value);
                let takes = match self.0 {
                    None => true,
                    Some((mine, kept)) => {
                        theirs.0.cmp(&mine).then(value.total_cmp(&kept)).$better()
                    }
                };
                if takes {
                    self.0 = Some(theirs);
                }
            }

            fn add_many(&mut self, _rows: u64, _bytes: u64) {}

            fn merge(&mut self, other: &Self) {
                if let Some((at, value)) = other.0 {
                    self.add(at, value);
                }
            }

            fn save(&self, out: &mut Writer) {
                out.option(self.0, |out, (at, value)| {
                    out.i64(at);
                    out.f64(value);
                });
            }

            fn load(from: &mut Reader<'_>) -> Option<Self> {
                let best = from.option(|from| Some((from.i64()?, from.f64()?)))?;
                Some($part(best))
            }

            fn value(&self, _finish: &Finish) -> Option<f64> {
                self.0.map(|(_, value)| value)
            }
        }
    };
}

edge!(Earliest, is_lt);
edge!(Latest, is_gt);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_order_of_addition() {
        let values = [1e16, 1.0, -1e16, 0.1, 1e-9, 3.5e15, -3.5e15];
        let mut forward = Wide::default();
        let mut backward = Wide::default();
        for value in values {
            forward.add(value, 0.0);
        }
        for value in values.iter().rev() {
            backward.add(*value, 0.0);
        }
        assert_eq!(forward.high, backward.high);
        assert_eq!(forward.high, 1.100000001);
    }

    #[test]
    fn infinities_sum_to_infinity() {
        let mut sum = Wide::default();
        for value in [1.0, f64::INFINITY, 2.0] {
            sum.add(value, 0.0);
        }
        assert_eq!(sum.high, f64::INFINITY);
    }

    #[test]
    fn variance_of_numbers_whose_squares_overflow_is_infinite() {
        let finish = Finish {
            op: RangeOp::Stddev,
            param: 0.0,
            range: 1,
        };
        let mut moments = Moments::default();
        for value in [1e200, -5e199, 3.0] {
            moments.add(0, value);
        }
        assert_eq!(moments.value(&finish), Some(f64::INFINITY));
    }

    #[test]
    fn equal_numbers_do_not_vary_however_large_they_are() {
        let finish = Finish {
            op: RangeOp::Stdvar,
            param: 0.0,
            range: 1,
        };
        let of = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.add(0, *value));
            moments
        };
        let mut both = of(&[1e308, 1e308]);
        both.merge(&Moments::default());
        both.merge(&of(&[1e308]));
        assert_eq!(both.value(&finish), Some(0.0));
        assert!(of(&[f64::NAN, 1.0]).value(&finish).unwrap().is_nan());
        assert!(of(&[f64::INFINITY; 2]).value(&finish).unwrap().is_nan());
    }

    #[test]
    fn variance_of_large_numbers_close_together_is_not_lost() {
        let finish = Finish {
            op: RangeOp::Stdvar,
            param: 0.0,
            range: 1,
        };
        let mut moments = Moments::default();
        for value in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0] {
            moments.add(0, value);
        }
        let variance = moments.value(&finish).unwrap();
        assert!((variance - 2.0 / 3.0).abs() < 1e-12, "{variance}");
    }
}
