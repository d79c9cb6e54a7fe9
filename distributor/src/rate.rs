use model::{NANOS_PER_SECOND, TenantId, Timestamp};
use parking_lot::Mutex;

use crate::Limits;
use crate::cache::Cache;

/// Bytes per second and tenant, as a token bucket for each. Of several distributors, each lets its
/// part of the rate pass, but a whole burst, so that no request is too large because there are many
/// of them. Tenants that were quiet for long are
/// forgotten, which gives them a full bucket: what they would have by then anyway.
pub(crate) struct RateLimiter {
    bytes_per_second: u64,
    burst: u64,
    buckets: Mutex<Cache<TenantId, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Bytes that may be sent now, as of `at`.
    level: u64,
    at: Timestamp,
}

/// Why a request may not pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// It may after so many seconds.
    Wait(u32),
    /// It never may: it is larger than the burst, which is given, bytes.
    Never(u64),
}

impl RateLimiter {
    /// Tenants per generation of the cache.
    const TENANTS_MAX: usize = 100_000;

    pub(crate) fn new(limits: &Limits) -> Self {
        RateLimiter {
            bytes_per_second: limits.rate_bytes_per_second,
            burst: limits.rate_burst_bytes.max(limits.rate_bytes_per_second),
            buckets: Mutex::new(Cache::new(Self::TENANTS_MAX)),
        }
    }

    /// Takes `bytes` from the tenant's bucket, all or none, as one of so many distributors.
    pub(crate) fn take(
        &self,
        tenant: &TenantId,
        bytes: u64,
        now: Timestamp,
        distributors: u32,
    ) -> Result<(), Exceeded> {
        if self.bytes_per_second == 0 {
            return Ok(());
        }
        let rate = self
            .bytes_per_second
            .div_ceil(u64::from(distributors.max(1)));
        let mut buckets = self.buckets.lock();
        let bucket = buckets.get(tenant, |_| 1).unwrap_or(Bucket {
            level: self.burst,
            at: now,
        });
        let waited = now.saturating_sub(bucket.at).max(0) as u128;
        let gained = waited * u128::from(rate) / NANOS_PER_SECOND as u128;
        let level = (u128::from(bucket.level) + gained).min(u128::from(self.burst)) as u64;
        if let Some(level) = level.checked_sub(bytes) {
            buckets.insert(tenant.clone(), Bucket { level, at: now }, 1);
            return Ok(());
        }
        if bytes > self.burst {
            return Err(Exceeded::Never(self.burst));
        }
        let missing = bytes - level;
        let wait = missing.div_ceil(rate).min(3600) as u32;
        Err(Exceeded::Wait(wait.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(bytes_per_second: u64, rate_burst_bytes: u64) -> RateLimiter {
        RateLimiter::new(&Limits {
            rate_bytes_per_second: bytes_per_second,
            rate_burst_bytes,
            ..Limits::default()
        })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limiter = limiter(100, 1000);
        let tenant = TenantId::default();
        assert_eq!(limiter.take(&tenant, 1000, 0, 1), Ok(()));
        assert_eq!(limiter.take(&tenant, 150, 0, 1), Err(Exceeded::Wait(2)));
        assert!(limiter.take(&tenant, 150, NANOS_PER_SECOND, 1).is_err());
        assert_eq!(limiter.take(&tenant, 150, 2 * NANOS_PER_SECOND, 1), Ok(()));
        let other = TenantId::new("other").unwrap();
        assert_eq!(limiter.take(&other, 1000, 0, 1), Ok(()));
    }

    #[test]
    fn more_than_the_burst_never_passes_and_says_so() {
        let tenant = TenantId::default();
        let taken = limiter(100, 1000).take(&tenant, 1001, 0, 1);
        assert_eq!(taken, Err(Exceeded::Never(1000)));
        // A burst is never less than what a second allows.
        let taken = limiter(100, 10).take(&tenant, 101, 0, 1);
        assert_eq!(taken, Err(Exceeded::Never(100)));
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_a_clock_that_goes_back_does_no_harm() {
        let tenant = TenantId::default();
        assert_eq!(limiter(0, 0).take(&tenant, u64::MAX, 0, 1), Ok(()));
        let limiter = limiter(100, 100);
        assert_eq!(limiter.take(&tenant, 100, 10, 1), Ok(()));
        assert!(limiter.take(&tenant, 100, 5, 1).is_err());
        assert_eq!(limiter.take(&tenant, 100, i64::MAX, 1), Ok(()));
    }

    #[test]
    fn each_of_several_distributors_lets_its_part_pass() {
        let limiter = limiter(100, 1000);
        let tenant = TenantId::default();
        assert_eq!(limiter.take(&tenant, 1000, 0, 4), Ok(()));
        assert_eq!(limiter.take(&tenant, 50, 0, 4), Err(Exceeded::Wait(2)));
        assert_eq!(limiter.take(&tenant, 50, 2 * NANOS_PER_SECOND, 4), Ok(()));
        // The others have left.
        assert_eq!(limiter.take(&tenant, 100, 3 * NANOS_PER_SECOND, 1), Ok(()));
        assert!(limiter.take(&tenant, 1, 3 * NANOS_PER_SECOND, 0).is_err());
    }
}
