//! What is known of the requests to delete, from the catalogs that processes show.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpc::Catalog;

use super::RecordNumber;
use crate::deletes::Asked;
use crate::records::Sent;

#[derive(Debug, Default)]
pub(super) struct Requests {
    requests: Vec<Request>,
    /// Versions that somebody has shown.
    seen: BTreeSet<u64>,
}

#[derive(Debug)]
struct Request {
    asked: Arc<Asked>,
    /// The least version known to have it.
    since: Option<u64>,
    /// The least version known to be without it again.
    until: Option<u64>,
}

impl Requests {
    pub(super) fn ask(&mut self, asked: &Arc<Asked>) {
        self.requests.push(Request {
            asked: Arc::clone(asked),
            since: None,
            until: None,
        });
    }

    /// Requests that are now known to be in force, with the version since which they are.
    pub(super) fn shows(&mut self, catalog: &Catalog) -> Vec<(Arc<Asked>, u64)> {
        let version = catalog.version;
        let mut begun = Vec::new();
        if !self.seen.insert(version) {
            return begun;
        }
        for request in &mut self.requests {
            let active = request.asked.is_active(catalog);
            match request.since {
                None if active => {
                    request.since = Some(version);
                    begun.push((Arc::clone(&request.asked), version));
                }
                Some(since) if active => request.since = Some(since.min(version)),
                Some(since) if since < version => {
                    let until = request.until.get_or_insert(version);
                    *until = version.min(*until);
                }
                _ => {}
            }
        }
        begun
    }

    /// Whether any may carry a record off that is not acknowledged yet.
    pub(super) fn may_take(&self, record: RecordNumber, sent: &Sent) -> bool {
        let mut open = self.requests.iter().filter(|r| r.until.is_none());
        open.any(|request| request.asked.names(record, sent))
    }

    /// Since which version a record is deleted that is acknowledged now.
    pub(super) fn takes(&self, record: RecordNumber, sent: &Sent) -> Option<u64> {
        let open = self.requests.iter().filter(|r| r.until.is_none());
        let takes = open.filter(|request| request.asked.names(record, sent));
        takes.filter_map(|request| request.since).min()
    }

    /// The version from which on all those that name the record are over, as far as is known.
    pub(super) fn over(&self, record: RecordNumber, sent: &Sent) -> Option<u64> {
        let names = self.requests.iter();
        let names = names.filter(|request| request.asked.names(record, sent));
        names.filter_map(|request| request.until).max()
    }
}
