//! Goal: what is merged, rewritten and dropped when, and that planning comes to an end. Method:
//! tables of segments, and a loop that carries plans out on the catalog alone.

use model::{NANOS_PER_SECOND, TenantId};
use proptest::prelude::*;
use rpc::TenantSettings;

use super::*;

const MIB: u64 = 1 << 20;
const NOW: i64 = 100 * DAY_NANOS;

fn options() -> PlanOptions {
    PlanOptions {
        merge: MergeConfig::default(),
        retention_nanos: 0,
        everything_small: false,
        skip: HashSet::new(),
    }
}

fn tenant(name: &str, first: i64, last: i64, content_bytes: u64) -> TenantSegment {
    TenantSegment {
        tenant: TenantId::new(name).unwrap(),
        records: 1,
        content_bytes,
        first,
        last,
    }
}

fn add(catalog: &mut Catalog, object_bytes: u64, tenants: Vec<TenantSegment>) -> SegmentId {
    catalog.last_segment += 1;
    let id = SegmentId(catalog.last_segment);
    let segment = SegmentMeta {
        id,
        signal: Signal::Logs,
        path: format!("{}.seg", id.0).into(),
        object_bytes,
        created: 0,
        level: 0,
        tenants,
    };
    catalog.segments.insert(id, Arc::new(segment));
    id
}

/// Segments of those sizes, an hour apart, on the day of `NOW`.
fn catalog_of(sizes: &[u64]) -> Catalog {
    let mut catalog = Catalog::default();
    for (at, bytes) in sizes.iter().enumerate() {
        let time = NOW + at as i64;
        add(&mut catalog, *bytes, vec![tenant("a", time, time, *bytes)]);
    }
    catalog
}

fn ids(plan: &MergePlan) -> Vec<u64> {
    plan.inputs.iter().map(|segment| segment.id.0).collect()
}

fn plans(catalog: &Catalog, options: &PlanOptions) -> Vec<Vec<u64>> {
    plan_merges(catalog, NOW, options).iter().map(ids).collect()
}

/// Does on the catalog what an executor would do, nothing being a copy of anything.
fn carry_out(catalog: &mut Catalog, plan: &MergePlan) {
    for input in &plan.inputs {
        catalog.segments.remove(&input.id);
    }
    if let Some(level) = plan.output_level {
        let bytes = plan.inputs.iter().map(|segment| segment.object_bytes).sum();
        let first = plan.inputs.iter().map(|s| s.time_bounds().0).min().unwrap();
        let last = plan.inputs.iter().map(|s| s.time_bounds().1).max().unwrap();
        let id = add(catalog, bytes, vec![tenant("a", first, last, bytes)]);
        let mut segment = SegmentMeta::clone(&catalog.segments[&id]);
        segment.level = level;
        catalog.segments.insert(id, Arc::new(segment));
    }
}

#[test]
fn eight_alike_are_merged_and_seven_are_not() {
    assert!(plans(&catalog_of(&[MIB; 7]), &options()).is_empty());
    assert_eq!(
        plans(&catalog_of(&[MIB; 8]), &options()),
        [[1, 2, 3, 4, 5, 6, 7, 8]]
    );
    let mut mixed = vec![MIB; 7];
    mixed.push(64 * MIB);
    assert!(plans(&catalog_of(&mixed), &options()).is_empty());
}

#[test]
fn days_are_merged_apart_and_settled_days_from_two_on() {
    let mut catalog = Catalog::default();
    let yesterday = NOW - DAY_NANOS;
    add(
        &mut catalog,
        MIB,
        vec![tenant("a", yesterday, yesterday, 1)],
    );
    add(&mut catalog, MIB, vec![tenant("a", NOW, NOW, 1)]);
    add(
        &mut catalog,
        MIB,
        vec![tenant("a", yesterday, yesterday + 1, 1)],
    );
    assert!(plans(&catalog, &options()).is_empty());
    let later = plan_merges(&catalog, NOW + SETTLED_NANOS, &options());
    assert_eq!(later.iter().map(ids).collect::<Vec<_>>(), [[1, 3]]);
    assert_eq!(later[0].output_level, Some(1));
}

/// Segments of 1 MiB on the day of `NOW`, written at these times.
fn written_at(times: impl IntoIterator<Item = i64>) -> Catalog {
    let mut catalog = Catalog::default();
    for created in times {
        let id = add(&mut catalog, MIB, vec![tenant("a", NOW, NOW, MIB)]);
        let segment = catalog.segments.get_mut(&id).unwrap();
        Arc::get_mut(segment).unwrap().created = created;
    }
    catalog
}

/// How many segments are merged now.
fn merged(catalog: &Catalog, options: &PlanOptions) -> usize {
    let plans = plan_merges(catalog, NOW, options);
    plans.iter().map(|plan| plan.inputs.len()).sum()
}

/// As many segments, all written a second ago.
fn burst(count: usize) -> Catalog {
    written_at(std::iter::repeat_n(NOW - NANOS_PER_SECOND, count))
}

#[test]
fn merging_waits_while_segments_come_in_fast_until_many_lie_there() {
    let options = options();
    let (few, many) = (options.merge.inputs_min, options.merge.backlog_max);
    assert_eq!(merged(&burst(few), &options), 0);
    assert_eq!(merged(&burst(many - 1), &options), 0);
    assert_eq!(merged(&burst(many), &options), many);
    // One fewer is no burst, whatever lies there from before.
    let old = std::iter::repeat_n(NOW - 60 * NANOS_PER_SECOND, few);
    let slow = old.clone().chain(std::iter::repeat_n(NOW, few - 1));
    assert_eq!(merged(&written_at(slow), &options), 2 * few - 1);
    assert_eq!(merged(&written_at(old), &options), few);
}

#[test]
fn merging_never_waits_where_it_is_not_to_or_is_asked_for() {
    let (mut never, few) = (options(), options().merge.inputs_min);
    never.merge.backlog_max = 0;
    assert_eq!(merged(&burst(few), &never), few);
    let asked = PlanOptions {
        everything_small: true,
        ..options()
    };
    assert_eq!(merged(&burst(few), &asked), few);
}

#[test]
fn a_clock_that_is_an_hour_ahead_or_behind_holds_no_merge_up() {
    let (options, hour) = (options(), 3600 * NANOS_PER_SECOND);
    let few = options.merge.inputs_min;
    for written in [NOW - hour, NOW + hour] {
        let wrong = written_at(std::iter::repeat_n(written, few));
        assert_eq!(merged(&wrong, &options), few);
    }
}

#[test]
fn what_is_merged_again_is_compressed_less() {
    let mut catalog = Catalog::default();
    for _ in 0..MergeConfig::default().inputs_min {
        add(&mut catalog, MIB, vec![tenant("a", NOW, NOW, 1)]);
    }
    let passing = |now, everything_small, object_bytes_max| {
        let options = PlanOptions {
            merge: MergeConfig {
                object_bytes_max,
                ..MergeConfig::default()
            },
            everything_small,
            ..options()
        };
        let plans = plan_merges(&catalog, now, &options);
        assert_eq!(plans.len(), 1);
        plans[0].passing
    };
    assert!(passing(NOW, false, 1024 * MIB));
    assert!(!passing(NOW, false, 20 * MIB));
    assert!(!passing(NOW, true, 1024 * MIB));
    assert!(!passing(NOW + 2 * DAY_NANOS, false, 1024 * MIB));
}

#[test]
fn outputs_stay_below_the_largest_size_and_large_segments_are_left_alone() {
    let merge = MergeConfig {
        inputs_min: 2,
        object_bytes_max: 100 * MIB,
        ..MergeConfig::default()
    };
    let options = PlanOptions { merge, ..options() };
    assert_eq!(
        plans(&catalog_of(&[40 * MIB; 5]), &options),
        [[1, 2], [3, 4]]
    );
    assert!(plans(&catalog_of(&[50 * MIB; 5]), &options).is_empty());
}

#[test]
fn on_request_everything_small_is_merged() {
    let options = PlanOptions {
        everything_small: true,
        ..options()
    };
    let catalog = catalog_of(&[MIB, 60 * MIB, 70 * MIB, 5]);
    assert_eq!(plans(&catalog, &options), [[1, 2, 4]]);
}

#[test]
fn skipped_segments_do_not_hold_up_the_others() {
    let skip = HashSet::from([SegmentId(2)]);
    let options = PlanOptions { skip, ..options() };
    assert_eq!(
        plans(&catalog_of(&[MIB; 9]), &options),
        [[1, 3, 4, 5, 6, 7, 8, 9]]
    );
}

#[test]
fn segments_are_dropped_when_the_last_record_of_every_tenant_has_expired() {
    let hour = 3600 * NANOS_PER_SECOND;
    let old = NOW - 10 * hour;
    let mut catalog = Catalog::default();
    add(
        &mut catalog,
        MIB,
        vec![tenant("a", old, old, 9), tenant("b", old, old, 9)],
    );
    add(&mut catalog, MIB, vec![tenant("a", old, NOW, 9)]);
    let retention = |retention_nanos| PlanOptions {
        retention_nanos,
        ..options()
    };
    assert!(plans(&catalog, &retention(0)).is_empty());
    assert!(plans(&catalog, &retention(11 * hour)).is_empty());
    let dropped = plan_merges(&catalog, NOW, &retention(9 * hour));
    assert_eq!((ids(&dropped[0]), dropped[0].output_level), (vec![1], None));
    let keeps = TenantSettings {
        retention_nanos: Some(0),
    };
    catalog.tenants.insert(TenantId::new("b").unwrap(), keeps);
    let rewritten = plan_merges(&catalog, NOW, &retention(9 * hour));
    assert_eq!(
        (ids(&rewritten[0]), rewritten[0].output_level),
        (vec![1], Some(0))
    );
}

#[test]
fn a_segment_is_rewritten_when_a_quarter_of_it_has_expired() {
    let mut catalog = Catalog::default();
    add(
        &mut catalog,
        MIB,
        vec![tenant("a", NOW - 100, NOW - 1, 1000)],
    );
    let rewritten = |retention_nanos| {
        let options = PlanOptions {
            retention_nanos,
            ..options()
        };
        !plan_merges(&catalog, NOW, &options).is_empty()
    };
    assert!(!rewritten(76));
    assert!(rewritten(75));
}

#[test]
fn extreme_times_and_sizes_are_planned_without_overflow() {
    let mut catalog = Catalog::default();
    for _ in 0..3 {
        let all = tenant("a", i64::MIN, i64::MAX, u64::MAX);
        add(&mut catalog, u64::MAX, vec![all.clone()]);
        add(&mut catalog, 0, vec![all]);
    }
    let options = PlanOptions {
        retention_nanos: i64::MAX,
        everything_small: true,
        ..options()
    };
    let plans = |now: i64| -> Vec<(Vec<u64>, Option<u32>)> {
        let plans = plan_merges(&catalog, now, &options);
        plans
            .iter()
            .map(|plan| (ids(plan), plan.output_level))
            .collect()
    };
    // Nothing is old enough: the small ones are merged.
    assert_eq!(plans(i64::MIN), [(vec![2, 4, 6], Some(1))]);
    // All before 1970 has expired, which is half of each.
    let rewrites: Vec<_> = (1..=6).map(|id| (vec![id], Some(0))).collect();
    assert_eq!(plans(i64::MAX), rewrites);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn planning_comes_to_an_end_and_loses_no_byte(
        sizes in prop::collection::vec((0..30_u32).prop_map(|log| 1_u64 << log), 0..120),
        everything_small: bool,
    ) {
        let options = PlanOptions { everything_small, ..options() };
        let mut catalog = catalog_of(&sizes);
        let mut rounds = 0;
        loop {
            let plans = plan_merges(&catalog, NOW, &options);
            let mut inputs: Vec<u64> = plans.iter().flat_map(ids).collect();
            let planned = inputs.len();
            inputs.sort_unstable();
            inputs.dedup();
            prop_assert_eq!(inputs.len(), planned, "no segment in two plans");
            let Some(plan) = plans.first() else { break };
            carry_out(&mut catalog, plan);
            rounds += 1;
            prop_assert!(rounds <= sizes.len());
        }
        let bytes: u64 = catalog.segments.values().map(|segment| segment.object_bytes).sum();
        prop_assert_eq!(bytes, sizes.iter().sum::<u64>());
    }
}
