//! The notation of values: `1 2.5 _ NaN 1+2x3 5x2 _x4`.

/// Most points that one row may stand for.
const POINTS_MAX: usize = 100_000;

/// The points that a row of words stands for; `None` is no value.
///
/// # Errors
/// Names the word that is none.
pub(super) fn points(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut points = Vec::new();
    for word in text.split_whitespace() {
        let refusal = || format!("not a value: {word}");
        if word == "_" {
            points.push(None);
        } else if let Some(count) = word.strip_prefix("_x") {
            let count = count.parse::<usize>().map_err(|_| refusal())?;
            points.resize(points.len() + count.min(POINTS_MAX), None);
        } else if let Some(value) = number(word) {
            points.push(Some(value));
        } else {
            let (first, delta, count) = series(word).ok_or_else(refusal)?;
            // The sum is built up as Prometheus does it, rounding included.
            let mut value = first;
            for _ in 0..=count {
                points.push(Some(value));
                value += delta;
            }
        }
        if points.len() > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} points"));
        }
    }
    Ok(points)
}

/// A single number.
pub(super) fn number(word: &str) -> Option<f64> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let negative = word.starts_with('-');
    let value = if unsigned.eq_ignore_ascii_case("nan") {
        f64::NAN
    } else if unsigned.eq_ignore_ascii_case("inf") {
        f64::INFINITY
    } else if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        unsigned.parse().ok()?
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

/// `a+bxn`, `a-bxn` or `axn`: first value, difference, and how many follow the first.
fn series(word: &str) -> Option<(f64, f64, usize)> {
    let (body, count) = word.rsplit_once('x')?;
    let count = count.parse::<usize>().ok().filter(|n| *n <= POINTS_MAX)?;
    if let Some(value) = number(body) {
        return Some((value, 0.0, count));
    }
    // The sign between the two numbers is not the first character and not in an exponent.
    let sign = body
        .char_indices()
        .skip(1)
        .find(|(at, c)| matches!(c, '+' | '-') && !body[..*at].ends_with(['e', 'E']));
    let (at, _) = sign?;
    Some((number(&body[..at])?, number(&body[at..])?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_expand_as_in_prometheus() {
        let plain = |text| {
            let points = points(text).unwrap();
            points
                .iter()
                .map(|p| p.unwrap_or(-99.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(plain("1 -2.5 1e3 +Inf"), [1.0, -2.5, 1000.0, f64::INFINITY]);
        assert_eq!(plain("1 _ _x2 3"), [1.0, -99.0, -99.0, -99.0, 3.0]);
        assert_eq!(plain("1+2x3"), [1.0, 3.0, 5.0, 7.0]);
        assert_eq!(plain("5-1x2"), [5.0, 4.0, 3.0]);
        assert_eq!(plain("-1e-1+1x1"), [-0.1, 0.9]);
        assert_eq!(plain("4x2"), [4.0, 4.0, 4.0]);
        assert!(points("NaN").unwrap()[0].unwrap().is_nan());
        assert!(points("x").is_err() && points("1x").is_err() && points("1+x3").is_err());
    }
}
