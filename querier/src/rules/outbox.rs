//! Requests to other servers: one after the other, again when they fail, in a line that does not
//! grow for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests that wait for one server; more are dropped, and counted.
const WAITING_MAX: usize = 1000;
/// And bytes of them.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often one request is tried.
const TRIES_MAX: u32 = 6;
/// How long to wait after the first failure and after the last ones; twice as long each time.
const REST_MIN: Duration = Duration::from_millis(200);
const REST_MAX: Duration = Duration::from_secs(10);
/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// One request, and how many alerts or samples are in it.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) items: u64,
    /// How long it is worth sending; what is old says something that is not so any more.
    pub(crate) fresh_for: Duration,
}

/// What became of alerts or samples.
#[derive(Clone, Debug)]
pub(crate) struct OutboxMetrics {
    /// They arrived.
    pub(crate) sent: IntCounter,
    /// They were refused, tried too often, or there was no room for them in the line.
    pub(crate) lost: IntCounter,
    /// Requests that were tried again.
    pub(crate) again: IntCounter,
}

/// The line before one server.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<(Post, Instant)>,
    /// Bytes of the requests that wait or are under way.
    waiting_bytes: Arc<AtomicUsize>,
    metrics: OutboxMetrics,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Refused,
    Again,
}

/// The way to other servers. Like Prometheus it asks no proxy. It follows no redirection: that would make an empty
/// `GET` of it, which many answer with 200.
pub(crate) fn client() -> Result<Client, String> {
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(TRY_TIMEOUT)
        .user_agent(concat!("pharos/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| error.to_string())
}

impl Outbox {
    /// Sends until it is told to stop.
    pub(crate) fn start(
        client: Client,
        url: Url,
        metrics: OutboxMetrics,
        stop: CancellationToken,
    ) -> Outbox {
        let (sender, mut waiting) = mpsc::channel::<(Post, Instant)>(WAITING_MAX);
        let counts = metrics.clone();
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let held = Arc::clone(&waiting_bytes);
        tokio::spawn(async move {
            let work = async {
                while let Some((post, stale)) = waiting.recv().await {
                    deliver(&client, &url, &post, stale, &counts).await;
                    held.fetch_sub(post.body.len(), Ordering::Relaxed);
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
        Outbox {
            sender,
            waiting_bytes,
            metrics,
        }
    }

    /// Puts a request into the line.
    pub(crate) fn put(&self, post: Post) {
        let stale = Instant::now() + post.fresh_for;
        let (items, bytes) = (post.items, post.body.len());
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before.saturating_add(bytes) <= WAITING_BYTES_MAX;
        if !has_room || self.sender.try_send((post, stale)).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.lost.inc_by(items);
        }
    }
}

async fn deliver(client: &Client, url: &Url, post: &Post, stale: Instant, metrics: &OutboxMetrics) {
    let host = url.host_str().unwrap_or_default();
    for try_number in 1..=TRIES_MAX {
        if Instant::now() >= stale {
            tracing::debug!(host, items = post.items, "too old to be sent");
            break;
        }
        let mut request = client.post(url.clone()).body(post.body.clone());
        for (name, value) in &post.headers {
            request = request.header(*name, value);
        }
        let (verdict, problem) = match request.send().await {
            Ok(answer) => (verdict(answer.status()), answer.status().to_string()),
            Err(error) => (Verdict::Again, error.without_url().to_string()),
        };
        match verdict {
            Verdict::Done => return metrics.sent.inc_by(post.items),
            Verdict::Refused => {
                tracing::warn!(
                    host,
                    problem,
                    items = post.items,
                    "refused, and not tried again"
                );
                break;
            }
            Verdict::Again if try_number < TRIES_MAX => {
                tracing::debug!(host, problem, "cannot be sent; it is tried again");
                metrics.again.inc();
                tokio::time::sleep(rest(try_number)).await;
            }
            Verdict::Again => {
                tracing::warn!(
                    host,
                    problem,
                    items = post.items,
                    "cannot be sent; given up"
                );
            }
        }
    }
    metrics.lost.inc_by(post.items);
}

fn rest(try_number: u32) -> Duration {
    (REST_MIN * 2_u32.saturating_pow(try_number - 1)).min(REST_MAX)
}

fn verdict(status: StatusCode) -> Verdict {
    match status {
        status if status.is_success() => Verdict::Done,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Verdict::Again,
        status if status.is_client_error() || status.is_redirection() => Verdict::Refused,
        _ => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_does_not_want_is_not_sent_again() {
        for (status, want) in [
            (200, Verdict::Done),
            (204, Verdict::Done),
            (302, Verdict::Refused),
            (308, Verdict::Refused),
            (400, Verdict::Refused),
            (404, Verdict::Refused),
            (429, Verdict::Again),
            (500, Verdict::Again),
            (503, Verdict::Again),
        ] {
            assert_eq!(
                verdict(StatusCode::from_u16(status).unwrap()),
                want,
                "{status}"
            );
        }
        assert_eq!(rest(1), REST_MIN);
        assert_eq!(rest(2), REST_MIN * 2);
        assert_eq!(rest(30), REST_MAX);
    }

    fn counts() -> OutboxMetrics {
        let count = || IntCounter::new("c", "c").unwrap();
        OutboxMetrics {
            sent: count(),
            lost: count(),
            again: count(),
        }
    }

    fn post(bytes: usize) -> Post {
        Post {
            headers: Vec::new(),
            body: vec![b'x'; bytes].into(),
            items: 1,
            fresh_for: Duration::from_secs(3600),
        }
    }

    #[tokio::test]
    async fn a_redirection_is_not_followed_and_counts_as_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .route(
                "/alerts",
                axum::routing::post(|| async { axum::response::Redirect::to("/login") }),
            )
            .route("/login", axum::routing::get(|| async { "please" }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let url = Url::parse(&format!("http://{address}/alerts")).unwrap();
        let stale = Instant::now() + Duration::from_secs(3600);
        let counts = counts();
        deliver(&client().unwrap(), &url, &post(1), stale, &counts).await;
        assert_eq!((counts.sent.get(), counts.lost.get()), (0, 1));
        server.abort();
    }

    #[tokio::test]
    async fn what_waits_for_a_dead_server_is_bounded_in_bytes() {
        // Nothing is sent: no other task runs before this one waits.
        let url = Url::parse("http://127.0.0.1:1/").unwrap();
        let stop = CancellationToken::new();
        let outbox = Outbox::start(client().unwrap(), url, counts(), stop.clone());
        for _ in 0..40 {
            outbox.put(post(1024 * 1024));
        }
        assert_eq!(outbox.metrics.lost.get(), 8);
        stop.cancel();
    }
}
