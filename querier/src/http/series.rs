//! `series`: the label sets themselves.

use axum::extract::State;
use axum::response::Response;

use super::call::Call;
use super::json::Json;
use super::labels::streams;
use super::selector::match_selector;
use crate::{Error, Querier};

/// `/loki/api/v1/series`
pub(super) async fn series(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let texts: Vec<&str> = call
        .params
        .all("match[]")
        .chain(call.params.all("match"))
        .collect();
    let mut texts = texts;
    if texts.is_empty() {
        texts.push("{}");
    }
    let selectors = texts.into_iter().map(|text| match_selector(&call, text));
    let selectors: Result<Vec<_>, Error> = selectors.collect();
    let range = call.lax_range(&querier)?;
    let mut streams = streams(&querier, &call, selectors?, range).await?;
    streams.sort_unstable();
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("success");
        json.key("data").array(|json| {
            for labels in &streams {
                json.label_set(labels);
            }
        });
    });
    Ok(super::json(json))
}
