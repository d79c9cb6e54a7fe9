//! What all endpoints read of a request alike.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, header::RETRY_AFTER};
use model::TenantId;
use proto::Encoding;

use crate::push::Push;
use crate::{Distributor, Error, Format, Outcome};

/// The header that names the tenant.
pub(crate) const TENANT_HEADER: &str = "x-scope-orgid";

/// The tenant that the request names; the default tenant if it names none.
pub(crate) fn tenant(headers: &HeaderMap) -> Result<TenantId, Error> {
    match headers.get(TENANT_HEADER) {
        None => Ok(TenantId::default()),
        Some(value) => {
            let text = value.to_str().map_err(|_| Error::TenantBytes)?;
            Ok(TenantId::new(text)?)
        }
    }
}

/// The media type without its parameters, in lowercase; "" if there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let text = String::from_utf8_lossy(value.unwrap_or_default());
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// The content encoding; `None` if there is no header.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Error> {
    let Some(value) = headers.get(CONTENT_ENCODING) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    match Encoding::parse(&text) {
        Some(encoding) => Ok(Some(encoding)),
        None => Err(Error::ContentEncoding {
            found: text.into_owned(),
        }),
    }
}

/// Refuses a body that says itself that it is larger than `limit`.
fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), Error> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length.is_some_and(|length| length > limit as u64) {
        true => Err(Error::BodyTooLarge { limit }),
        false => Ok(()),
    }
}

/// A format, and the encoding of bodies that name none.
pub(crate) type Form = (Format, Encoding);

/// Reads the request as the tenant's body and stores it. `form` tells what a media type ("" if the
/// request names none) means here; for one that means nothing the answer lists what is `wanted`.
pub(crate) async fn push(
    distributor: &Distributor,
    request: Request,
    wanted: &'static str,
    form: impl FnOnce(&str) -> Option<Form>,
) -> Result<Outcome, Error> {
    let (parts, sent) = request.into_parts();
    let headers = &parts.headers;
    let tenant = tenant(headers)?;
    let given = content_encoding(headers)?;
    let found = content_type(headers);
    let Some((format, usual)) = form(&found) else {
        return Err(Error::ContentType { found, wanted });
    };
    let limit = distributor.config().body_bytes_max;
    check_length(headers, limit)?;
    let body = distributor.receive(sent, limit).await?;
    let encoding = given.unwrap_or(usual);
    distributor
        .push(Push {
            tenant,
            format,
            encoding,
            body,
        })
        .await
}

/// Adds Retry-After where waiting helps.
pub(crate) fn retry_after(mut response: Response<Body>, error: &Error) -> Response<Body> {
    if let Some(seconds) = error.retry_after_seconds() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_names_no_tenant_is_refused_and_never_the_default() {
        assert_eq!(tenant(&HeaderMap::new()), Ok(TenantId::default()));
        for (header, want) in [
            (&b""[..], "tenant ID is empty"),
            (b"\xfc", "tenant ID is not visible ASCII"),
            (b"..", "tenant ID is '.' or '..'"),
        ] {
            let value = HeaderValue::from_bytes(header).unwrap();
            let headers = HeaderMap::from_iter([(TENANT_HEADER.parse().unwrap(), value)]);
            let error = tenant(&headers).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid X-Scope-OrgID: {want}"));
        }
    }
}
