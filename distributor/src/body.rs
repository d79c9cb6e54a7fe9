//! A request's body, as it was sent.

use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::Error;
use crate::budget::Share;

/// How long a client may send nothing in the middle of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A body with its share of the memory for those that wait.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// Given back when it is dropped.
    pub(crate) share: Share,
}

/// Reads a body to its end; its share grows with it, so that slow clients are counted, too. `waiting`
/// is the size of the whole budget, for the error.
pub(crate) async fn read<B>(
    mut sent: B,
    limit: usize,
    mut share: Share,
    waiting: usize,
) -> Result<Body, Error>
where
    B: HttpBody + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, sent.frame()).await;
        let frame = frame.map_err(|_| {
            let text = format!("nothing was sent for {} s", SILENCE_MAX.as_secs());
            Error::BodyIncomplete(text)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Error::BodyIncomplete(error.into().to_string()))?;
        let Ok(mut data) = frame.into_data() else {
            continue; // trailers
        };
        let length = data.remaining();
        let data = data.copy_to_bytes(length);
        if data.len() > limit - first.len() - all.len() {
            return Err(Error::BodyTooLarge { limit });
        }
        if !share.try_grow(data.len()) {
            return Err(Error::Overloaded { limit: waiting });
        }
        // Most bodies are one frame, which needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Body { bytes, share })
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::Body as Sent;
    use futures::{StreamExt, poll, stream};

    use super::*;
    use crate::budget::Budget;

    fn pieces(sizes: &[usize]) -> impl futures::Stream<Item = io::Result<Bytes>> + use<> {
        let pieces = sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size])));
        stream::iter(pieces.collect::<Vec<_>>())
    }

    async fn read_with(budget: &Budget, sent: Sent) -> Result<Body, Error> {
        read(sent, 1000, budget.share(), 2048).await
    }

    #[tokio::test]
    async fn a_body_is_all_its_pieces_and_no_more_than_the_limit() {
        let budget = Budget::new(2048);
        for sizes in [&[][..], &[0], &[1000], &[0, 300, 0, 400, 300]] {
            let body = read_with(&budget, Sent::from_stream(pieces(sizes)));
            let want: usize = sizes.iter().sum();
            assert_eq!(body.await.unwrap().bytes, vec![b'x'; want], "{sizes:?}");
        }
        for sizes in [&[1001][..], &[500, 501], &[0, 1000, 0, 1]] {
            let body = read_with(&budget, Sent::from_stream(pieces(sizes))).await;
            let error = body.unwrap_err();
            assert_eq!(error, Error::BodyTooLarge { limit: 1000 }, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn bodies_that_have_not_ended_count_too() {
        let budget = Budget::new(2048);
        let endless = || Sent::from_stream(pieces(&[900]).chain(stream::pending()));
        let mut first = Box::pin(read_with(&budget, endless()));
        let mut second = Box::pin(read_with(&budget, endless()));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let third = read_with(&budget, Sent::from_stream(pieces(&[1])));
        let error = third.await.unwrap_err();
        assert_eq!(error, Error::Overloaded { limit: 2048 });
        drop(first);
        let again = read_with(&budget, Sent::from_stream(pieces(&[1])));
        assert_eq!(again.await.unwrap().bytes, "x");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_not_waited_for() {
        let budget = Budget::new(2048);
        let silent = Sent::from_stream(pieces(&[1]).chain(stream::pending()));
        let error = read_with(&budget, silent).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("nothing was sent for 60 s"), "{text}");
        let broken = stream::once(async { Err::<Bytes, _>(io::Error::other("reset")) });
        let error = read_with(&budget, Sent::from_stream(broken)).await;
        assert!(error.unwrap_err().to_string().contains("reset"));
    }
}
