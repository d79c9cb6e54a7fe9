//! Room for recursion.

/// What is left of the stack at least, bytes: enough for reading records at the leaf of a tree, and
/// for dropping the tree, in a build without optimisation.
const LEFT_MIN: usize = 1 << 20;
/// How much is added at once, bytes.
const GROWTH: usize = 8 << 20;

/// Runs `inner` on a stack that has room, the present one if it has. Whatever walks an expression
/// passes here at each level, so that an expression as high as
/// [`HEIGHT_MAX`](super::parse::HEIGHT_MAX) may come to a thread with any stack.
#[inline]
pub fn deep<T>(inner: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEFT_MIN, GROWTH, inner)
}
