//! `series`: the label sets themselves.

use axum::extract::State;
use axum::response::Response;

use super::call::Call;
use super::json::Json;
use super::labels::streams;
use super::selector::selector;
use crate::{Error, Querier};

/// `/loki/api/v1/series`
pub(super) async fn series(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let texts: Vec<&str> = call
        .params
        .all("match[]")
        .chain(call.params.all("match"))
        .collect();
    if texts.is_empty() {
        return Err(Error::Invalid("0 matcher groups supplied".into()));
    }
    let selectors: Result<Vec<_>, Error> = texts.into_iter().map(selector).collect();
    let range = call.range(&querier)?;
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
