//! How many shards a node should own, given the sizes of zones.

/// Fair share of a node of each zone: as even as the rule allows that copies are in distinct zones,
/// or in all when there are fewer zones than copies. `sizes` are the zones' nodes, none is 0.
pub(crate) fn fair_shares(shards: usize, replicas: usize, sizes: &[usize]) -> Vec<f64> {
    let nodes: usize = sizes.iter().sum();
    let copies = replicas.min(nodes) as f64 * shards as f64;
    // What all nodes of a zone own together, if a node may own so much.
    let of_zone = |size: usize, level: f64| {
        let each = shards as f64;
        let (least, most) = if sizes.len() >= replicas {
            (0.0, each)
        } else {
            (each, each * size as f64)
        };
        (level * size as f64).clamp(least, most)
    };
    // The lowest level at which all copies have room, found by halving: 64 times leave no
    // difference that a 64-bit number shows.
    let (mut low, mut high) = (0.0, shards as f64);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        let room: f64 = sizes.iter().map(|size| of_zone(*size, middle)).sum();
        if room < copies {
            low = middle;
        } else {
            high = middle;
        }
    }
    let share = |size: &usize| of_zone(*size, high) / *size as f64;
    sizes.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(shards: usize, replicas: usize, sizes: &[usize]) -> Vec<i64> {
        let shares = fair_shares(shards, replicas, sizes);
        shares
            .into_iter()
            .map(|share| share.round() as i64)
            .collect()
    }

    #[test]
    fn shares_are_even_as_far_as_zones_allow() {
        // One zone, and as many nodes as copies.
        assert_eq!(rounded(100, 3, &[10]), [30]);
        assert_eq!(rounded(100, 3, &[2]), [100]);
        // A copy in each of three zones, whatever their sizes.
        assert_eq!(rounded(100, 3, &[1, 2, 4]), [100, 50, 25]);
        // Two zones: one copy at least in each.
        assert_eq!(rounded(100, 3, &[5, 5]), [30, 30]);
        assert_eq!(rounded(100, 3, &[5, 1]), [40, 100]);
        assert_eq!(rounded(100, 3, &[20, 2]), [10, 50]);
        // More zones than copies: only a zone that is too large gives up some.
        assert_eq!(rounded(100, 3, &[2, 2, 2, 2]), [38, 38, 38, 38]);
        assert_eq!(rounded(100, 3, &[7, 1, 1, 1]), [14, 67, 67, 67]);
    }
}
