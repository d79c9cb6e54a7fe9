//! As much of an HTTP client as a test needs: one request per connection, answers read whole.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};

const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends one request to `address` (host and port) and waits for the answer.
pub(super) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Response> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    write!(head, "Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    response(&bytes)
}

fn response(bytes: &[u8]) -> anyhow::Result<Response> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.context("the answer has no end of its head")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head
        .split_whitespace()
        .nth(1)
        .context("the answer has no status")?;
    let body = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        dechunked(body)?
    } else {
        body.to_vec()
    };
    Ok(Response {
        status: status.parse()?,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunked(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n");
        let end = end.context("a chunk has no length")?;
        let length = String::from_utf8_lossy(&body[..end]);
        let length = length.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(length, 16)?;
        if length == 0 {
            return Ok(whole);
        }
        let start = end + 2;
        ensure!(body.len() >= start + length + 2, "a chunk is cut off");
        whole.extend_from_slice(&body[start..start + length]);
        body = &body[start + length + 2..];
    }
}

/// A text as a part of a query string.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_chunks() {
        let plain = response(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((plain.status, plain.body.as_str()), (204, ""));
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let chunked = response(bytes).unwrap();
        assert_eq!((chunked.status, chunked.body.as_str()), (200, "abcde"));
    }

    #[test]
    fn texts_are_encoded_byte_by_byte() {
        assert_eq!(encoded("a {é}"), "a%20%7B%C3%A9%7D");
    }
}
