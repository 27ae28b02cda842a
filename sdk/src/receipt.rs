//! What a step wrote down about itself, for the attempt after a crash.

/// What the attempts at this step before have written down: see [`Cx::receipt`](crate::Cx::receipt).
///
/// ```
/// use jackfield_sdk::Receipt;
///
/// /// Whether there is anything left to do, and what to look for before that.
/// fn left(receipt: Receipt<u64, String>) -> Option<Option<u64>> {
///     match receipt {
///         Receipt::Absent => Some(None),
///         Receipt::Intended(since) => Some(Some(since)),
///         Receipt::Done(_message) => None,
///     }
/// }
///
/// assert_eq!(left(Receipt::Absent), Some(None));
/// assert_eq!(left(Receipt::Intended(1_767_225_600)), Some(Some(1_767_225_600)));
/// assert_eq!(left(Receipt::Done("1.2".to_owned())), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt<I, D> {
    /// Nothing: no attempt has come as far as [`Cx::intend`](crate::Cx::intend). Nothing has happened.
    Absent,
    /// An attempt was about to act. It may have; look, and act only if it has not.
    Intended(I),
    /// It has happened; this is what [`Cx::record`](crate::Cx::record) was given. Do not repeat it.
    Done(D),
}
