//! One query over the records of several tenants, which then carry their tenant as a label.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Flow, LabelMatcher, Labels, RowBlock, Selector, TenantError, TenantId, Timestamp};
use query::{
    Budget, BudgetError, Reach, ScanRequest, ScanStats, ShareSink, Sink, Source, SourceError,
};

use crate::source::SnapshotSource;

/// The label that tells whose a record is.
pub(crate) const TENANT_LABEL: &str = "__tenant_id__";

/// What a label of that name of a stream's own is called then.
const ORIGINAL_LABEL: &str = "original___tenant_id__";

/// Whose records a request may see: at least one tenant, in order, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenants(Vec<TenantId>);

impl Tenants {
    /// Reads `A` or `A|B`; without a header it is the default tenant.
    pub(crate) fn parse(header: Option<&str>) -> Result<Tenants, TenantError> {
        let Some(header) = header else {
            return Ok(Tenants(vec![TenantId::default()]));
        };
        let tenants: Result<Vec<TenantId>, TenantError> =
            header.split('|').map(TenantId::new).collect();
        let mut tenants = tenants?;
        tenants.sort();
        tenants.dedup();
        Ok(Tenants(tenants))
    }

    /// Just one.
    pub(crate) fn of(tenant: TenantId) -> Tenants {
        Tenants(vec![tenant])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TenantId> {
        self.0.iter()
    }

    pub(crate) fn is_many(&self) -> bool {
        self.0.len() > 1
    }

    /// Whose turn in the queue it is.
    pub(crate) fn first(&self) -> &TenantId {
        &self.0[0]
    }
}

/// The records of the tenants of a request.
pub(crate) struct TenantsSource {
    pub(crate) sources: Vec<SnapshotSource>,
}

impl TenantsSource {
    /// Whether records get the tenant's label.
    fn tags(&self) -> bool {
        self.sources.len() > 1
    }

    /// The records of the only tenant, which carry no label of it.
    pub(crate) fn only(&self) -> Option<&SnapshotSource> {
        match self.sources.as_slice() {
            [source] => Some(source),
            _ => None,
        }
    }

    /// The tenants that the selector admits, each with what is left of the selector and with the
    /// tag to put on its labels.
    pub(crate) fn select<'a>(
        &'a self,
        selector: &Selector,
    ) -> impl Iterator<Item = (&'a SnapshotSource, Selector, Option<&'a str>)> {
        let tags = self.tags();
        let (tenant, rest): (Vec<LabelMatcher>, Vec<LabelMatcher>) = selector
            .matchers
            .iter()
            .cloned()
            .partition(|matcher| tags && &*matcher.name == TENANT_LABEL);
        let rest = Selector { matchers: rest };
        self.sources
            .iter()
            .filter(move |source| {
                let id = source.tenant.as_str();
                tenant.iter().all(|matcher| matcher.is_match(id))
            })
            .map(move |source| {
                let tag = tags.then(|| source.tenant.as_str());
                (source, rest.clone(), tag)
            })
    }
}

impl Source for TenantsSource {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        if let [source] = self.sources.as_slice() {
            return source.scan(request, budget, new_sink);
        }
        let mut sinks = Vec::new();
        let mut stats = ScanStats::default();
        for (source, selector, tag) in self.select(&request.selector) {
            let request = ScanRequest {
                selector,
                ..request.clone()
            };
            let new_tagged = || Tagged {
                sink: new_sink(),
                tenant: tag.unwrap_or_default(),
                labels: HashMap::new(),
            };
            let (tagged, scanned) = source.scan(&request, budget, &new_tagged)?;
            sinks.extend(tagged.into_iter().map(|tagged| tagged.sink));
            stats.add(&scanned);
        }
        if sinks.is_empty() {
            sinks.push(new_sink());
        }
        Ok((sinks, stats))
    }

    /// With one tenant; the records of several are seen here alone, for they get labels.
    fn scan_share<K: ShareSink>(
        &self,
        request: &ScanRequest,
        share: &dyn Fn() -> Option<Vec<u8>>,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        match self.sources.as_slice() {
            [source] => source.scan_share(request, share, budget, new_sink),
            _ => self.scan(request, budget, new_sink),
        }
    }

    fn foresee(&self, reach: &Reach) {
        let mut of_tenants: HashMap<&TenantId, Reach> = HashMap::new();
        for selector in &reach.selectors {
            for (source, selector, _) in self.select(selector) {
                let of_tenant = of_tenants.entry(&source.tenant).or_default();
                of_tenant.add(selector, reach.range);
            }
        }
        for source in &self.sources {
            if let Some(reach) = of_tenants.get(&source.tenant) {
                source.foresee(reach);
            }
        }
    }
}

/// Adds the tenant to the labels of every block.
struct Tagged<'a, K> {
    sink: K,
    tenant: &'a str,
    labels: HashMap<Arc<Labels>, Arc<Labels>>,
}

impl<K: Sink> Sink for Tagged<'_, K> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        let tenant = self.tenant;
        let labels = self
            .labels
            .entry_ref(block.labels)
            .or_insert_with(|| tagged(block.labels, tenant));
        self.sink.push(&RowBlock { labels, ..*block })
    }

    fn bound(&self) -> Option<Timestamp> {
        self.sink.bound()
    }
}

/// The labels with the tenant's; a label of that name that was there gets another one.
pub(crate) fn tagged(labels: &Arc<Labels>, tenant: &str) -> Arc<Labels> {
    let has_tenant = labels.get(TENANT_LABEL).is_some();
    let others = labels.iter().filter_map(|(name, value)| match name {
        TENANT_LABEL => Some((ORIGINAL_LABEL, value)),
        ORIGINAL_LABEL if has_tenant => None,
        _ => Some((name, value)),
    });
    let pairs = others.chain(std::iter::once((TENANT_LABEL, tenant)));
    match Labels::new(pairs) {
        Ok(tagged) => Arc::new(tagged),
        // Cannot be: the names were valid, and the new one is valid and stands once.
        Err(_) => Arc::clone(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_label_of_a_streams_own_gives_way() {
        let labels = |pairs: &[(&str, &str)]| Arc::new(Labels::new(pairs.iter().copied()).unwrap());
        let own = labels(&[("a", "1"), (TENANT_LABEL, "x")]);
        assert_eq!(
            tagged(&own, "t").to_string(),
            r#"{__tenant_id__="t", a="1", original___tenant_id__="x"}"#
        );
        let both = labels(&[(ORIGINAL_LABEL, "y"), (TENANT_LABEL, "x")]);
        assert_eq!(
            tagged(&both, "t").to_string(),
            r#"{__tenant_id__="t", original___tenant_id__="x"}"#
        );
    }
}
