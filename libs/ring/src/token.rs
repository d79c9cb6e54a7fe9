//! How near a shard is to a node: consistent hashing by `hashring`, with tokens of our own.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use model::NodeId;
use xxhash_rust::xxh3::xxh3_64;

/// Places of one node on the circle of 64-bit numbers. So many that the distances of a shard to
/// different nodes are as good as independent.
const TOKENS: u32 = 64;

/// Where a node or a shard stands. It is a hash already, so that `hashring` must not hash it again:
/// what the standard library's hashers make of a value may differ between releases.
#[derive(Clone, Copy, Debug)]
struct Token(u64);

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

#[derive(Clone, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// Never called: a [`Token`] is one number.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
}

#[derive(Clone, Debug)]
struct Stable;

impl BuildHasher for Stable {
    type Hasher = AsItIs;

    fn build_hasher(&self) -> AsItIs {
        AsItIs::default()
    }
}

/// The tokens of one node.
pub(crate) struct Tokens(HashRing<Token, Stable>);

impl Tokens {
    pub(crate) fn of(node: NodeId) -> Tokens {
        let mut ring = HashRing::with_hasher(Stable);
        let token = |number| Token(hash(b"node", node.0, number));
        ring.batch_add((0..TOKENS).map(token).collect());
        Tokens(ring)
    }

    /// How far it is from the shard to the next token: the nearer, the more the shard belongs to
    /// the node.
    pub(crate) fn distance(&self, shard: usize) -> u64 {
        let from = hash(b"shard", shard as u64, 0);
        let next = self.0.get(&Token(from));
        next.map_or(u64::MAX, |token| token.0.wrapping_sub(from))
    }
}

fn hash(kind: &[u8], number: u64, part: u32) -> u64 {
    let mut bytes = [0; 24];
    bytes[..kind.len()].copy_from_slice(kind);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..20].copy_from_slice(&part.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_to_the_next_token_around_the_circle() {
        let tokens: Vec<u64> = (0..TOKENS).map(|n| hash(b"node", 7, n)).collect();
        let near = Tokens::of(NodeId(7));
        for shard in 0..500 {
            let from = hash(b"shard", shard as u64, 0);
            let nearest = tokens.iter().map(|token| token.wrapping_sub(from)).min();
            assert_eq!(Some(near.distance(shard)), nearest);
        }
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(hash(b"node", 1, 0), 4274566471823052434);
        assert_eq!(hash(b"shard", 1, 0), 5665492142999774410);
    }
}
