use std::hash::Hash;

use hashbrown::{Equivalent, HashMap};

/// A map that forgets what was not used lately. Two generations: when the young one is full, it
/// becomes the old one, and what was old is gone. So it holds at most twice `weight_max`, and
/// nothing is kept per entry for the sake of forgetting.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    weight: usize,
    weight_max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// A cache of which each generation holds entries of `weight_max` together.
    pub(crate) fn new(weight_max: usize) -> Self {
        Cache {
            young: HashMap::new(),
            old: HashMap::new(),
            weight: 0,
            weight_max,
        }
    }

    /// The value, if it is still there. `weigh` says what an entry of the old generation weighs
    /// that becomes young again.
    pub(crate) fn get<Q>(&mut self, key: &Q, weigh: impl FnOnce(&V) -> usize) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        let weight = weigh(&value);
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// The value, if it is of the young generation.
    pub(crate) fn get_young(&self, key: &K) -> Option<&V> {
        self.young.get(key)
    }

    /// An entry of the young generation that is replaced keeps its weight.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        if let Some(held) = self.young.get_mut(&key) {
            *held = value;
            return;
        }
        if self.weight + weight > self.weight_max {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_again_and_again_pushes_nothing_out() {
        let mut cache = Cache::new(10);
        cache.insert("quiet", 0, 1);
        for n in 0..100 {
            cache.insert("busy", n, 1);
        }
        assert_eq!(cache.get("quiet", |_| 1), Some(0));
        assert_eq!(cache.get("busy", |_| 1), Some(99));
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(10);
        cache.insert("hot", 1, 1);
        for n in 0..100 {
            cache.insert(Box::leak(format!("cold{n}").into_boxed_str()), n, 1);
            assert_eq!(cache.get("hot", |_| 1), Some(1));
            assert!(cache.young.len() + cache.old.len() <= 20);
        }
        assert_eq!(cache.get("cold0", |_| 1), None);
        assert_eq!(cache.get("cold99", |_| 1), Some(99));
    }
}
