use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::push::Format;
use crate::refusal::{Reason, Refusals};

/// Counters of the distributor. Every combination of labels is there from the start, so that rates
/// are right from the first event on.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Vec<IntCounter>,
    failed: Vec<IntCounter>,
    records: Vec<IntCounter>,
    bytes: Vec<IntCounter>,
    body_bytes: Vec<IntCounter>,
    refused: Vec<IntCounter>,
}

impl Metrics {
    /// Makes the counters and registers them.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let by_format = |name, help| -> prometheus::Result<Vec<IntCounter>> {
            let family = IntCounterVec::new(Opts::new(name, help), &["protocol"])?;
            registry.register(Box::new(family.clone()))?;
            let counters = Format::ALL.map(|format| family.with_label_values(&[format.as_str()]));
            Ok(counters.into())
        };
        let refused = IntCounterVec::new(
            Opts::new(
                "pharos_distributor_refused_records_total",
                "Records refused while others of their request were taken, by reason",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Metrics {
            requests: by_format(
                "pharos_distributor_requests_total",
                "Push requests received, by protocol",
            )?,
            failed: by_format(
                "pharos_distributor_failed_requests_total",
                "Push requests of which nothing was acknowledged, by protocol",
            )?,
            records: by_format(
                "pharos_distributor_records_total",
                "Records acknowledged, by protocol",
            )?,
            bytes: by_format(
                "pharos_distributor_bytes_total",
                "Bytes of lines and metadata values acknowledged, by protocol",
            )?,
            body_bytes: by_format(
                "pharos_distributor_body_bytes_total",
                "Bytes of request bodies received, as sent, by protocol",
            )?,
            refused: Reason::ALL
                .map(|reason| refused.with_label_values(&[reason.as_str()]))
                .into(),
        })
    }

    pub(crate) fn received(&self, format: Format, body_bytes: usize) {
        self.requests[format as usize].inc();
        self.body_bytes[format as usize].inc_by(body_bytes as u64);
    }

    pub(crate) fn failed(&self, format: Format) {
        self.failed[format as usize].inc();
    }

    pub(crate) fn taken(&self, format: Format, records: u64, bytes: u64) {
        self.records[format as usize].inc_by(records);
        self.bytes[format as usize].inc_by(bytes);
    }

    pub(crate) fn refused(&self, refusals: &Refusals) {
        for ((_, count), counter) in refusals.counts().zip(&self.refused) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }
}
