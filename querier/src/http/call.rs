//! What every route takes: whose records, the parameters, and how the answer is to be written.

use std::cmp::Ordering;
use std::fmt::Display;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, Method};
use model::{TimeRange, Timestamp};
use query::Budget;

use super::duration::{print_duration, print_go_duration};
use super::limits::QueryLimits;
use super::params::{ParamError, Params};
use super::parquet;
use crate::run::Effort;
use crate::tenants::{Tenants, TenantsSource};
use crate::{Error, Querier};

/// Asks for the categories of labels to be told apart.
const FLAGS_HEADER: &str = "x-loki-response-encoding-flags";
const CATEGORIZE_LABELS: &str = "categorize-labels";
const TAGS_HEADER: &str = "x-query-tags";
const DRILLDOWN_TAG: &str = "Source=grafana-lokiexplore-app";
const TENANT_HEADER: &str = "x-scope-orgid";

const PAST_LOOKBACK: &str =
    "this data is no longer available, it is past now - max_query_lookback (0s)";

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) tenants: Tenants,
    pub(super) params: Params,
    pub(super) categorize_labels: bool,
    /// All that the client asks of the encoding of streams, known or not: Loki's answers repeat it.
    pub(super) encoding_flags: Vec<String>,
    /// Limits of this request alone.
    pub(super) limits: QueryLimits,
    /// Whether the answer is to be a Parquet file.
    pub(super) parquet: bool,
    /// Whether Grafana's Logs Drilldown asks: it wants a part of too many series, not an error.
    pub(super) is_drilldown: bool,
}

impl From<ParamError> for Error {
    fn from(error: ParamError) -> Self {
        Error::Invalid(error.to_string())
    }
}

/// What is wrong with a request rather than with the text of its query; Loki says so without the
/// words "parse error".
const WRONG_KIND: [&str; 2] = [
    "only label matchers are supported",
    "only log selector is supported",
];

impl From<query::logql::ParseError> for Error {
    fn from(error: query::logql::ParseError) -> Self {
        match WRONG_KIND.contains(&&*error.message) {
            true => Error::Invalid(error.message),
            false => Error::Invalid(error.to_string()),
        }
    }
}

impl Call {
    /// Everything but a body.
    pub(super) fn of(headers: &HeaderMap, query: Option<&str>, form: &[u8]) -> Result<Call, Error> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let flags = text(FLAGS_HEADER).unwrap_or_default().split(',');
        let flags = flags.map(str::trim).filter(|flag| !flag.is_empty());
        let encoding_flags: Vec<String> = flags.map(str::to_owned).collect();
        let tags = text(TAGS_HEADER).unwrap_or_default();
        Ok(Call {
            is_drilldown: tags
                .split(',')
                .any(|tag| tag.trim().eq_ignore_ascii_case(DRILLDOWN_TAG)),
            parquet: text("accept") == Some(parquet::KIND),
            tenants: tenants(headers)?,
            params: Params::decode(&[form, query.unwrap_or_default().as_bytes()]),
            categorize_labels: encoding_flags.iter().any(|flag| flag == CATEGORIZE_LABELS),
            encoding_flags,
            limits: QueryLimits::of(headers),
        })
    }

    /// `start`, `end` and `since`, not longer than the querier allows.
    pub(super) fn range(&self, querier: &Querier) -> Result<TimeRange, Error> {
        let now = querier.shared.now();
        let range = self.params.range(now)?;
        self.check_length(querier, range.start, range.end)?;
        Ok(self.limits.kept(range, now))
    }

    /// As [`range`](Self::range), for label names and series, where Loki has other words for an end
    /// that is before the start, and takes one that is the start.
    pub(super) fn lax_range(&self, querier: &Querier) -> Result<TimeRange, Error> {
        let (start, end) = self.params.bounds(querier.shared.now())?;
        match end.cmp(&start) {
            Ordering::Less => Err(Error::Invalid(PAST_LOOKBACK.into())),
            Ordering::Equal => Ok(TimeRange::inclusive(start, start)),
            Ordering::Greater => self.range(querier),
        }
    }

    /// Refuses ranges longer than the querier, or the request itself, allows.
    pub(super) fn check_length(
        &self,
        querier: &Querier,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<(), Error> {
        let own = querier.shared.config.query_length_max.as_nanos();
        let own = i64::try_from(own).unwrap_or(i64::MAX);
        let max = self.limits.length.smaller(own);
        refuse_longer(end.saturating_sub(start), max)
    }

    /// Runs `work` when it is this request's turn, within its limits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        querier: &Querier,
        work: impl FnOnce(&TenantsSource, &Budget) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Effort), Error> {
        let shared = &querier.shared;
        let time = self.limits.time(shared.config.query_timeout);
        shared.run(&self.tenants, time, work).await
    }
}

/// Refuses to look at more time than that, nanoseconds; 0 means no limit.
pub(crate) fn refuse_longer(length: i64, max: i64) -> Result<(), Error> {
    if max == 0 || length <= max {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the query time range exceeds the limit (query length: {}, limit: {})",
        print_go_duration(length),
        print_duration(max)
    )))
}

/// Whose records are asked for; the same names are refused, with the same words, as when writing.
fn tenants(headers: &HeaderMap) -> Result<Tenants, Error> {
    let invalid =
        |problem: &dyn Display| Error::Invalid(format!("invalid X-Scope-OrgID: {problem}"));
    let header = headers.get(TENANT_HEADER).map(HeaderValue::to_str);
    let header = header
        .transpose()
        .map_err(|_| invalid(&"tenant ID is not visible ASCII"))?;
    Tenants::parse(header).map_err(|error| invalid(&error))
}

impl FromRequest<Querier> for Call {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Querier) -> Result<Self, Error> {
        let headers = request.headers().clone();
        let query = request.uri().query().map(str::to_owned);
        let form = if request.method() == Method::POST {
            Bytes::from_request(request, state)
                .await
                .map_err(|error| Error::Invalid(error.to_string()))?
        } else {
            Bytes::new()
        };
        Call::of(&headers, query.as_deref(), &form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants_of(header: &[u8]) -> Result<Tenants, String> {
        let value = HeaderValue::from_bytes(header).unwrap();
        let headers = HeaderMap::from_iter([(TENANT_HEADER.parse().unwrap(), value)]);
        let call = Call::of(&headers, None, &[]);
        call.map(|call| call.tenants)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_header_the_tenant_is_the_default() {
        let call = Call::of(&HeaderMap::new(), None, &[]).unwrap();
        assert_eq!(Ok(call.tenants), Tenants::parse(None));
    }

    #[test]
    fn a_header_that_names_no_tenant_is_refused_and_never_the_default() {
        for (header, want) in [
            (&b""[..], "tenant ID is empty"),
            (b"a|", "tenant ID is empty"),
            (b"\xfc", "tenant ID is not visible ASCII"),
            (
                b"a b",
                "tenant ID 'a b' contains unsupported character ' ' at position 1",
            ),
        ] {
            let error = tenants_of(header).unwrap_err();
            assert_eq!(error, format!("invalid X-Scope-OrgID: {want}"));
        }
        assert_eq!(
            tenants_of(b"b|a"),
            Tenants::parse(Some("a|b")).map_err(|error| error.to_string())
        );
    }
}
