/// What the caller of a failed operation is expected to do. Every error enum of the workspace maps
/// each of its variants to one of these; one table maps them to HTTP and gRPC statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request can never succeed as it is: correct it.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// Somebody else changed the thing first: read again, decide again.
    Conflict,
    /// A limit or budget is used up: wait (Retry-After) or ask for less.
    Exhausted,
    /// The disk or bucket has no room: an operator must act; nothing acknowledged was lost.
    OutOfSpace,
    /// A needed part is down or too slow: retry with backoff.
    Unavailable,
    /// The caller went away or the deadline passed.
    Cancelled,
    /// Stored bytes are not what was written: restore or delete the named object.
    Corrupt,
    /// A defect of ours: report it.
    Internal,
}
