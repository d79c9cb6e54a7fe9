//! A running server as a target. Each section of a script (what stands between two `clear`) is a
//! tenant of its own, so nothing has to be deleted.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};
use testkit::querytest::{Outcome, Pairs, Record, Step, Target, When, script};

use super::http::{encoded, request};

const HOUR: i64 = 3_600_000_000_000;
/// Labels that a server adds to what it is sent.
const ADDED: [&str; 2] = ["service_name", "detected_level"];

/// A server that speaks Loki's API.
pub(super) struct Server {
    /// Host and port.
    address: String,
    /// Makes tenants of this run unlike those of others.
    run: String,
    section: usize,
    /// The script's time zero, nanoseconds since 1970: a whole hour, so that the last record of
    /// the script is not in the future.
    zero: i64,
    /// Labels that records of this section have.
    own: Vec<String>,
}

impl Server {
    /// A target at `url` for one script; nothing is sent yet.
    pub(super) fn new(url: &str, run: &str, now: i64, text: &str) -> anyhow::Result<Self> {
        let address = url
            .strip_prefix("http://")
            .context("want http://HOST:PORT")?;
        let mut last = 0;
        for step in script(text) {
            if let Step::Load(records) = step {
                last = records.iter().map(|r| r.at).fold(last, i64::max);
            }
        }
        Ok(Server {
            address: address.trim_end_matches('/').to_owned(),
            run: run.to_owned(),
            section: 0,
            zero: (now - last) / HOUR * HOUR,
            own: Vec::new(),
        })
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let tenant = format!("querytest-{}-{}", self.run, self.section);
        let headers = [
            ("X-Scope-OrgID", tenant.as_str()),
            ("Content-Type", "application/json"),
        ];
        let response = request(&self.address, method, path, &headers, body);
        let response = response.map_err(|error| format!("{error:#}"))?;
        match response.status {
            200..=299 => Ok(response.body),
            _ => Err(response.body),
        }
    }

    /// Labels as they were sent: what the server added is left out, unless it is spoken of.
    fn labels(&self, value: &Value, query: &str) -> Pairs {
        let added = |name: &str| {
            ADDED.contains(&name) && !query.contains(name) && !self.own.iter().any(|n| n == name)
        };
        let pairs = value.as_object().into_iter().flatten();
        let pairs = pairs.filter(|(name, _)| !added(name));
        let mut pairs: Pairs = pairs
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        pairs.sort();
        pairs
    }

    fn outcome(&self, body: &str, query: &str) -> anyhow::Result<Outcome> {
        let answer: Value = serde_json::from_str(body)?;
        let data = &answer["data"];
        let result = &data["result"];
        let rows = || result.as_array().context("no result");
        match data["resultType"].as_str() {
            Some("scalar") => Ok(Outcome::Scalar(number(&result[1])?)),
            Some("vector") => {
                let rows = rows()?.iter().map(|row| {
                    let value = number(&row["value"][1])?;
                    Ok((self.labels(&row["metric"], query), value))
                });
                Ok(Outcome::Vector(rows.collect::<anyhow::Result<_>>()?))
            }
            Some("matrix") => {
                let rows = rows()?.iter().map(|row| {
                    let values = row["values"].as_array().context("no values")?;
                    let points = values.iter().map(|point| {
                        let seconds = point[0].as_f64().context("no time")?;
                        // Times are whole milliseconds; the float may be a little off.
                        let nanos = (seconds * 1e3).round() as i64 * 1_000_000;
                        Ok((nanos - self.zero, number(&point[1])?))
                    });
                    let points = points.collect::<anyhow::Result<_>>()?;
                    Ok((self.labels(&row["metric"], query), points))
                });
                Ok(Outcome::Matrix(rows.collect::<anyhow::Result<_>>()?))
            }
            other => anyhow::bail!("unknown type of result: {other:?}"),
        }
    }
}

/// A sample value, which the API gives as text.
fn number(value: &Value) -> anyhow::Result<f64> {
    let text = value.as_str().context("no value")?;
    Ok(text.parse()?)
}

impl Target for Server {
    fn clear(&mut self) -> Result<(), String> {
        self.section += 1;
        self.own.clear();
        Ok(())
    }

    fn load(&mut self, records: &[Record]) -> Result<(), String> {
        let mut streams: BTreeMap<&Pairs, Vec<Value>> = BTreeMap::new();
        for record in records {
            let metadata: BTreeMap<_, _> = record.metadata.iter().cloned().collect();
            let entry = json!([(self.zero + record.at).to_string(), record.line, metadata]);
            streams.entry(&record.labels).or_default().push(entry);
            let names = record.labels.iter().chain(&record.metadata);
            self.own.extend(names.map(|(name, _)| name.clone()));
        }
        self.own.sort();
        self.own.dedup();
        if streams.is_empty() {
            return Ok(());
        }
        let streams = streams.into_iter().map(|(labels, values)| {
            let stream: BTreeMap<_, _> = labels.iter().cloned().collect();
            json!({"stream": stream, "values": values})
        });
        let body = json!({"streams": streams.collect::<Vec<_>>()}).to_string();
        self.send("POST", "/loki/api/v1/push", &body).map(drop)
    }

    fn ask(&mut self, query: &str, when: When) -> Result<Outcome, String> {
        let text = encoded(query);
        let path = match when {
            When::Instant(at) => {
                format!("/loki/api/v1/query?query={text}&time={}", self.zero + at)
            }
            When::Range { from, to, step } => {
                let (from, to) = (self.zero + from, self.zero + to);
                let step = step as f64 / 1e9;
                format!("/loki/api/v1/query_range?query={text}&start={from}&end={to}&step={step}")
            }
        };
        let body = self.send("GET", &path, "")?;
        self.outcome(&body, query)
            .map_err(|error| format!("{error:#}: {body}"))
    }
}
