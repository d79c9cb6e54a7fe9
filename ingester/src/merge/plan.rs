use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use model::{Signal, Timestamp};
use rpc::{Catalog, SegmentId, SegmentMeta, TenantSegment};

use crate::config::{MergeConfig, nanos};

const DAY_NANOS: i64 = 86_400 * 1_000_000_000;
/// A day that ended this long ago is settled: its segments are merged from two on.
const SETTLED_NANOS: i64 = 3_600 * 1_000_000_000;
/// A segment is rewritten when at least one part in so many of its content has expired. Each
/// rewrite removes all that has expired, so the work is at most so many times the data.
const EXPIRED_PARTS: u64 = 4;

/// One replacement in the catalog, complete: nothing is left to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePlan {
    /// Segments that go, in order of time.
    pub inputs: Vec<Arc<SegmentMeta>>,
    /// Level of the segment that comes; `None` when nothing comes, because all has expired.
    pub output_level: Option<u32>,
    /// What comes will be merged again before long: it need not be as small as can be.
    pub passing: bool,
}

/// How to plan.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Sizes and counts.
    pub merge: MergeConfig,
    /// Lifetime of records of tenants without a setting of their own, nanoseconds; 0 = for ever.
    pub retention_nanos: i64,
    /// Merge everything below `small_bytes_max`, from two segments on, whatever their sizes.
    pub everything_small: bool,
    /// Segments to leave alone, unless all in them has expired.
    pub skip: HashSet<SegmentId>,
}

/// What should be replaced now, most urgent first: expired segments, rewrites, merges of the oldest
/// days. No segment is in two plans. Pure; about n log n in the number of segments.
///
/// Merging is size-tiered: tiers are powers of 8 MiB, so that a record is rewritten about once per
/// factor of `inputs_min`. Days are those of the latest record, so that retention can drop whole
/// segments. Where segments come in fast, merging waits until [`backlog_max`](MergeConfig::backlog_max)
/// of them lie there: a burst then costs what storing it costs, and is merged behind it.
pub fn plan_merges(catalog: &Catalog, now: Timestamp, options: &PlanOptions) -> Vec<MergePlan> {
    let (mut drops, mut rewrites) = (Vec::new(), Vec::new());
    let mut groups: BTreeMap<(Signal, i64, u32), Vec<&Arc<SegmentMeta>>> = BTreeMap::new();
    for segment in catalog.segments.values() {
        match expired(segment, catalog, now, options) {
            // Nothing of it is read.
            Expired::All => drops.push(Arc::clone(segment)),
            _ if options.skip.contains(&segment.id) => {}
            Expired::Much => rewrites.push(MergePlan {
                inputs: vec![Arc::clone(segment)],
                output_level: Some(segment.level),
                passing: false,
            }),
            Expired::Little => {
                if let Some(tier) = tier(segment, options) {
                    let day = segment.time_bounds().1.div_euclid(DAY_NANOS);
                    let group = groups.entry((segment.signal, day, tier)).or_default();
                    group.push(segment);
                }
            }
        }
    }
    let mut plans = Vec::new();
    if !drops.is_empty() {
        plans.push(MergePlan {
            inputs: drops,
            output_level: None,
            passing: false,
        });
    }
    plans.append(&mut rewrites);
    for ((_, day, _), group) in groups {
        let day_end = day.saturating_add(1).saturating_mul(DAY_NANOS);
        let settled = day_end.saturating_add(SETTLED_NANOS) <= now;
        let last = settled || options.everything_small;
        if !options.everything_small && may_wait(&group, now, &options.merge) {
            continue;
        }
        cut(group, last, &options.merge, &mut plans);
    }
    plans
}

enum Expired {
    All,
    Much,
    Little,
}

fn expired(
    segment: &SegmentMeta,
    catalog: &Catalog,
    now: Timestamp,
    options: &PlanOptions,
) -> Expired {
    let (mut all, mut gone) = (0_u64, 0_u64);
    let mut alive = false;
    for tenant in &segment.tenants {
        let keep = catalog.kept(&tenant.tenant, now, options.retention_nanos);
        alive |= tenant.last >= keep.start;
        all = all.saturating_add(tenant.content_bytes);
        gone = gone.saturating_add(expired_bytes(tenant, keep.start));
    }
    if !alive {
        Expired::All
    } else if gone > 0 && gone >= all / EXPIRED_PARTS {
        Expired::Much
    } else {
        Expired::Little
    }
}

/// How much of the tenant's content is before `start`, as if it were spread evenly.
fn expired_bytes(tenant: &TenantSegment, start: Timestamp) -> u64 {
    if tenant.last < start {
        return tenant.content_bytes;
    }
    let span = i128::from(tenant.last) - i128::from(tenant.first) + 1;
    let past = (i128::from(start) - i128::from(tenant.first)).clamp(0, span);
    u64::try_from(i128::from(tenant.content_bytes) * past / span).unwrap_or(0)
}

/// Which segments are alike: 0 below 1 MiB, then one for each factor of 8; `None` when the segment
/// is large enough.
fn tier(segment: &SegmentMeta, options: &PlanOptions) -> Option<u32> {
    let bytes = segment.object_bytes;
    if options.everything_small {
        return (bytes < options.merge.small_bytes_max).then_some(0);
    }
    let mib = bytes >> 20;
    (bytes < options.merge.object_bytes_max / 2)
        .then(|| mib.checked_ilog2().map_or(0, |log| log / 3 + 1))
}

/// Whether these segments come in so fast that more will be there before long, and are not too many
/// to read yet. Those that merges made do not count, nor one from a clock that is wrong.
fn may_wait(group: &[&Arc<SegmentMeta>], now: Timestamp, config: &MergeConfig) -> bool {
    let lately = nanos(config.interval);
    let fresh = |segment: &&&Arc<SegmentMeta>| {
        segment.level == 0 && now.abs_diff(segment.created) <= lately.unsigned_abs()
    };
    group.len() < config.backlog_max && group.iter().filter(fresh).count() >= config.inputs_min
}

/// An output of at most this part of the largest will be merged again.
const PASSING_PARTS: u64 = 8;

/// Cuts a group into merges of neighbours in time; `last` says that no more segments are expected.
fn cut(
    mut group: Vec<&Arc<SegmentMeta>>,
    last: bool,
    config: &MergeConfig,
    plans: &mut Vec<MergePlan>,
) {
    let inputs_min = if last { 2 } else { config.inputs_min };
    group.sort_by_key(|segment| (segment.time_bounds(), segment.id));
    let mut rest = group.as_slice();
    while rest.len() >= inputs_min {
        let mut bytes = 0_u64;
        let fitting = rest.iter().take(config.inputs_max).take_while(|segment| {
            bytes = bytes.saturating_add(segment.object_bytes);
            bytes <= config.object_bytes_max
        });
        let (inputs, later) = rest.split_at(fitting.count().max(1));
        rest = later;
        if inputs.len() >= inputs_min {
            let bytes: u64 = inputs.iter().map(|segment| segment.object_bytes).sum();
            plans.push(MergePlan {
                inputs: inputs.iter().map(|segment| Arc::clone(segment)).collect(),
                output_level: inputs.iter().map(|segment| segment.level + 1).max(),
                passing: !last && bytes <= config.object_bytes_max / PASSING_PARTS,
            });
        }
    }
}

#[cfg(test)]
mod tests;
