//! Decimal numbers, so that `addf 0.1 0.2` is 0.3. Numbers too long for 128 bits are computed as
//! binary floats.

/// A divisor was 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DivisionByZero;

/// Digits behind the point of a quotient.
const QUOTIENT_DIGITS: u32 = 16;
/// Most digits behind the point of what is kept exactly.
const SCALE_MAX: u32 = 30;

/// `digits / 10^scale`, or a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decimal {
    Exact { digits: i128, scale: u32 },
    Float(f64),
}

impl Decimal {
    /// The shortest decimal number that reads as this float.
    pub(super) fn from_f64(value: f64) -> Self {
        Self::exact(value).unwrap_or(Decimal::Float(value))
    }

    fn exact(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let text = format!("{value}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let scale = u32::try_from(fraction.len())
            .ok()
            .filter(|scale| *scale <= SCALE_MAX)?;
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Decimal::Exact { digits, scale })
    }

    pub(super) fn to_f64(self) -> f64 {
        match self {
            Decimal::Float(value) => value,
            Decimal::Exact { digits, scale } => {
                format!("{digits}e-{scale}").parse().unwrap_or(f64::NAN)
            }
        }
    }

    pub(super) fn add(self, other: Self) -> Self {
        self.combine(other, i128::checked_add, |a, b| a + b)
    }

    pub(super) fn sub(self, other: Self) -> Self {
        self.combine(other, i128::checked_sub, |a, b| a - b)
    }

    pub(super) fn mul(self, other: Self) -> Self {
        let exact = match (self, other) {
            (
                Decimal::Exact { digits: a, scale },
                Decimal::Exact {
                    digits: b,
                    scale: more,
                },
            ) if scale + more <= SCALE_MAX => a.checked_mul(b).map(|digits| Decimal::Exact {
                digits,
                scale: scale + more,
            }),
            _ => None,
        };
        exact.unwrap_or_else(|| Decimal::Float(self.to_f64() * other.to_f64()))
    }

    /// Rounded half away from zero.
    pub(super) fn div(self, other: Self) -> Result<Self, DivisionByZero> {
        if other.to_f64() == 0.0 {
            return Err(DivisionByZero);
        }
        let exact = match (self, other) {
            (
                Decimal::Exact { digits: a, scale },
                Decimal::Exact {
                    digits: b,
                    scale: less,
                },
            ) => quotient(a, scale, b, less),
            _ => None,
        };
        Ok(exact.unwrap_or_else(|| Decimal::Float(self.to_f64() / other.to_f64())))
    }

    fn combine(
        self,
        other: Self,
        exact: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Self {
        let result = match (self, other) {
            (
                Decimal::Exact { digits: a, scale },
                Decimal::Exact {
                    digits: b,
                    scale: other_scale,
                },
            ) => {
                let common = scale.max(other_scale);
                let a = a.checked_mul(10i128.pow(common - scale));
                let b = b.checked_mul(10i128.pow(common - other_scale));
                a.zip(b)
                    .and_then(|(a, b)| exact(a, b))
                    .map(|digits| Decimal::Exact {
                        digits,
                        scale: common,
                    })
            }
            _ => None,
        };
        result.unwrap_or_else(|| Decimal::Float(float(self.to_f64(), other.to_f64())))
    }
}

fn quotient(a: i128, a_scale: u32, b: i128, b_scale: u32) -> Option<Decimal> {
    let up = 10i128.checked_pow(QUOTIENT_DIGITS + b_scale)?;
    let a = a.checked_mul(up)?;
    let b = b.checked_mul(10i128.checked_pow(a_scale)?)?;
    let (whole, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let round = rest.unsigned_abs() >= b.unsigned_abs().div_ceil(2);
    let away = if (a < 0) == (b < 0) { 1 } else { -1 };
    Some(Decimal::Exact {
        digits: whole + i128::from(round) * away,
        scale: QUOTIENT_DIGITS,
    })
}
