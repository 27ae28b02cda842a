//! What a step wrote down about itself, for the attempt after a crash.

/// What the attempts at this step before have written down: see [`Cx::receipt`](crate::Cx::receipt).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt<I, D> {
    /// Nothing: no attempt has come as far as [`Cx::intend`](crate::Cx::intend). Nothing has happened.
    Absent,
    /// An attempt was about to act. It may have; look, and act only if it has not.
    Intended(I),
    /// It has happened; this is what [`Cx::record`](crate::Cx::record) was given. Do not repeat it.
    Done(D),
}
