//! A few batches as a source: what a tail connection runs its query over.

use std::sync::Arc;

use model::{LogBatch, TenantId};
use query::{Budget, ScanRequest, ScanStats, Sink, Source, SourceError};

use super::Hidden;
use super::heads::{self, Delivery};
use super::rows::Picked;

/// The records of some batches of one tenant.
#[derive(Debug)]
pub(crate) struct BatchSource {
    pub(crate) tenant: TenantId,
    pub(crate) batches: Vec<Arc<LogBatch>>,
    pub(crate) hidden: Hidden,
}

impl Source for BatchSource {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let mut stats = ScanStats::default();
        let request = &ScanRequest {
            range: self.hidden.kept(request.range),
            ..request.clone()
        };
        let search = heads::Search {
            tenant: &self.tenant,
            request,
            hidden: &self.hidden,
            budget,
            workers: 1,
        };
        let heads = search.run(self.batches.clone(), &mut stats)?;
        let mut sink = new_sink();
        let mut delivery = Delivery {
            request,
            budget,
            picked: &mut Picked::default(),
            stats: &mut stats,
        };
        for stream in 0..heads.streams.len() {
            delivery.stream(&heads, stream, None, &mut sink)?;
        }
        Ok((vec![sink], stats))
    }
}
