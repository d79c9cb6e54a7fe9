//! The functions of alert templates. Those of Go's language itself are those of all templates.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::super::functions::{Bodies, Failure, Outcome, add, fail, string, text};
use super::super::functions::{call as call_shared, signature as shared};
use super::super::layout::GoTime;
use super::super::location::Location;
use super::super::printf::sprintf;
use super::super::run::Param;
use super::super::strings::{regex_of, url_encode};
use super::super::text::replaced_matches;
use super::super::value::Value;
use crate::logql::parse::parse_duration;

/// Functions that all templates have.
const SHARED: [&str; 20] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "call", "eq", "ne", "lt", "le", "gt", "ge", "title",
];

const SIGNATURES: &[(&str, &[Param])] = {
    use Param::{Any, Text};
    &[
        (
            "query toUpper toLower safeHtml graphLink tableLink",
            &[Text],
        ),
        (
            "stripPort stripDomain parseDuration urlQueryEscape",
            &[Text],
        ),
        ("match", &[Text, Text]),
        ("reReplaceAll", &[Text, Text, Text]),
        ("humanize humanize1024 humanizeDuration", &[Any]),
        ("humanizePercentage humanizeTimestamp toTime", &[Any]),
        ("first value strvalue", &[Any]),
        ("label sortByLabel", &[Text, Any]),
        ("pathPrefix externalURL", &[]),
    ]
};

static PARAMS: LazyLock<HashMap<&str, &[Param]>> = LazyLock::new(|| {
    let named = SIGNATURES.iter();
    named
        .flat_map(|(names, params)| names.split(' ').map(|name| (name, *params)))
        .collect()
});

static BODIES: LazyLock<Bodies> = LazyLock::new(|| {
    let mut map = Bodies::new();
    texts(&mut map);
    numbers(&mut map);
    samples(&mut map);
    map
});

/// What a function takes, and whether the last may stand any number of times.
pub(in super::super) fn signature(name: &str) -> Option<(&'static [Param], bool)> {
    match PARAMS.get(name) {
        Some(params) => Some((params, false)),
        None if SHARED.contains(&name) => shared(name),
        None => None,
    }
}

/// Calls a function with arguments that fit its parameters; `root` is what the template was given.
pub(in super::super) fn call(name: &str, args: &[Value], root: &Value) -> Outcome {
    let url = || match root {
        Value::Map(members) => members
            .get("ExternalURL")
            .map_or(String::new(), Value::shown),
        _ => String::new(),
    };
    match name {
        "externalURL" => string(url()),
        "pathPrefix" => string(path_of(&url())),
        name => match BODIES.get(name) {
            Some(body) => body(args),
            None => call_shared(name, args),
        },
    }
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.trim_end_matches('/')
}

fn texts(map: &mut Bodies) {
    add(map, "toUpper", |a| string(text(a, 0)?.to_uppercase()));
    add(map, "toLower", |a| string(text(a, 0)?.to_lowercase()));
    add(map, "safeHtml", |a| Ok(a[0].clone()));
    add(map, "urlQueryEscape", |a| url_encode(text(a, 0)?)?.done());
    add(map, "graphLink", |a| link(text(a, 0)?, 0));
    add(map, "tableLink", |a| link(text(a, 0)?, 1));
    add(map, "stripPort", |a| string(split_port(text(a, 0)?).0));
    add(map, "stripDomain", |a| string(without_domain(text(a, 0)?)));
    add(map, "parseDuration", |a| {
        let nanos = parse_duration(text(a, 0)?);
        let nanos = nanos
            .ok_or_else(|| fail(format!("not a valid duration string: {:?}", a[0].shown())))?;
        Ok(Value::Float(nanos as f64 / 1e9))
    });
    add(map, "match", |a| {
        let regex = regex_of(text(a, 0)?)?;
        Ok(Value::Bool(regex.is_match(text(a, 1)?)))
    });
    add(map, "reReplaceAll", |a| {
        let regex = regex_of(text(a, 0)?)?;
        replaced_matches(&regex, text(a, 2)?, text(a, 1)?)?.done()
    });
}

fn link(query: &str, tab: u8) -> Outcome {
    let query = url_encode(query)?.into_string();
    string(format!("/graph?g0.expr={query}&g0.tab={tab}"))
}

/// Host, and port with its colon if there is one.
fn split_port(address: &str) -> (&str, &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => (
            &host[1..host.len() - 1],
            &address[address.len() - port.len() - 1..],
        ),
        Some((host, port)) if !host.contains([':', '[', ']']) => {
            (host, &address[address.len() - port.len() - 1..])
        }
        _ => (address, ""),
    }
}

/// The first part of a name, with its port; addresses stay.
fn without_domain(address: &str) -> String {
    let (host, port) = split_port(address);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return address.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    format!("{first}{port}")
}

fn numbers(map: &mut Bodies) {
    add(map, "humanize", |a| {
        let value = number(&a[0])?;
        if value == 0.0 || !value.is_finite() {
            return shown(value, "");
        }
        scaled(value, "")
    });
    add(map, "humanize1024", |a| {
        let mut value = number(&a[0])?;
        let mut unit = "";
        if value.is_finite() && value.abs() > 1.0 {
            for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
                if value.abs() < 1024.0 {
                    break;
                }
                unit = next;
                value /= 1024.0;
            }
        }
        shown(value, unit)
    });
    add(map, "humanizeDuration", |a| duration(number(&a[0])?));
    add(map, "humanizePercentage", |a| {
        shown(number(&a[0])? * 100.0, "%")
    });
    add(map, "humanizeTimestamp", |a| {
        let value = number(&a[0])?;
        match time(value) {
            Ok(Some(time)) => string(time.show()),
            Ok(None) => shown(value, ""),
            Err(failure) => Err(failure),
        }
    });
    add(map, "toTime", |a| {
        let value = number(&a[0])?;
        match time(value)? {
            Some(time) => Ok(Value::Time(Arc::new(time))),
            None => Err(fail("value is NaN or Inf")),
        }
    });
}

/// The number that a value is, or that a text says.
fn number(value: &Value) -> Result<f64, Failure> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::String(text) => text.parse().map_err(|_| {
            fail(format!(
                "strconv.ParseFloat: parsing {text:?}: invalid syntax"
            ))
        }),
        other => match other.integer() {
            Some(number) => Ok(number as f64),
            None => Err(fail(format!(
                "can't convert {} to float",
                other.type_name()
            ))),
        },
    }
}

/// Four digits, and a unit.
fn shown(value: f64, unit: &str) -> Outcome {
    let digits = sprintf("%.4g", &[Value::Float(value)])?.into_string();
    string(format!("{digits}{unit}"))
}

/// With a prefix of a thousand or of a thousandth.
fn scaled(mut value: f64, unit: &str) -> Outcome {
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
    } else {
        for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            prefix = next;
            value *= 1000.0;
        }
    }
    shown(value, &format!("{prefix}{unit}"))
}

fn duration(value: f64) -> Outcome {
    if !value.is_finite() {
        return shown(value, "");
    }
    if value == 0.0 {
        return shown(value, "s");
    }
    if value.abs() < 1.0 {
        return scaled(value, "s");
    }
    let (sign, value) = match value < 0.0 {
        true => ("-", -value),
        false => ("", value),
    };
    let whole = value as i64;
    let (days, hours) = (whole / 86_400, whole / 3600 % 24);
    let (minutes, seconds) = (whole / 60 % 60, whole % 60);
    string(match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}", shown(value, "s")?.shown()),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    })
}

/// The time that many seconds after 1970, to the millisecond as floats say it; `None` for no number.
fn time(seconds: f64) -> Result<Option<GoTime>, Failure> {
    if !seconds.is_finite() {
        return Ok(None);
    }
    let nanos = (seconds * 1e9).abs();
    if nanos >= i64::MAX as f64 {
        return Err(fail(format!(
            "{seconds} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )));
    }
    let millis = (seconds * 1000.0).round() as i64;
    Ok(Some(
        GoTime::from_nanos(millis.saturating_mul(1_000_000)).at(&Location::Utc),
    ))
}

fn samples(map: &mut Bodies) {
    add(map, "first", |a| match list(&a[0])?.first() {
        Some(sample) => Ok(sample.clone()),
        None => Err(fail("first() called on vector with no elements")),
    });
    add(map, "value", |a| member(&a[0], "Value"));
    add(map, "label", |a| string(label_of(&a[1], text(a, 0)?)?));
    add(map, "strvalue", |a| string(label_of(&a[0], "__value__")?));
    add(map, "sortByLabel", |a| {
        let name = text(a, 0)?;
        let samples = list(&a[1])?.iter();
        let mut keyed: Vec<(Arc<str>, &Value)> = samples
            .map(|sample| Ok((label_of(sample, name)?, sample)))
            .collect::<Result<_, Failure>>()?;
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::List(
            keyed.into_iter().map(|(_, s)| s.clone()).collect(),
        ))
    });
}

fn list(value: &Value) -> Result<&[Value], Failure> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(fail(format!(
            "{} is no result of a query",
            other.type_name()
        ))),
    }
}

fn member(sample: &Value, name: &str) -> Outcome {
    let found = match sample {
        Value::Map(members) => members.get(name).cloned(),
        _ => None,
    };
    let kind = sample.type_name();
    found.ok_or_else(|| fail(format!("{kind} is no sample of a query")))
}

fn label_of(sample: &Value, name: &str) -> Result<Arc<str>, Failure> {
    Ok(match member(sample, "Labels")? {
        Value::Labels(labels) => labels.get(name).cloned().unwrap_or_else(|| Arc::from("")),
        _ => Arc::from(""),
    })
}
