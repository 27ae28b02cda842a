//! Bodies: read whole, within a length, a time and a share of memory.

use std::{
    error::Error as _,
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::receive::Refusal;
use crate::reason::Reason;

/// The bytes of bodies that may lie in memory at a time, over all connections.
pub(super) struct Memory {
    held: AtomicUsize,
    limit: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            limit,
        }
    }

    /// A share of nothing yet.
    fn share(&self) -> Share<'_> {
        Share {
            memory: self,
            bytes: 0,
        }
    }
}

/// Bytes that are accounted for until it is dropped.
pub(super) struct Share<'m> {
    memory: &'m Memory,
    bytes: usize,
}

impl Share<'_> {
    /// Accounts for `more` bytes, or says that there is no room.
    fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        let before = self.memory.held.fetch_add(more, Relaxed);
        self.bytes += more;
        if before + more > self.memory.limit {
            return Err(Refusal::new(
                Reason::Overloaded,
                format!(
                    "bodies in flight take all of the {} bytes set aside for them",
                    self.memory.limit
                ),
            ));
        }
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Relaxed);
    }
}

/// Reads `body` whole.
///
/// Memory is accounted for as bytes arrive, not by what the client announces: a header costs it nothing.
pub(super) async fn read<'m>(
    body: &mut Incoming,
    limit: usize,
    within: Duration,
    memory: &'m Memory,
) -> Result<(Bytes, Share<'m>), Refusal> {
    check_length(body.size_hint().lower(), limit)?;
    tokio::time::timeout(within, collect(body, limit, memory))
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                Reason::IncompleteRequest,
                format!("the body was not complete within {within:?}"),
            ))
        })
}

async fn collect<'m>(
    body: &mut Incoming,
    limit: usize,
    memory: &'m Memory,
) -> Result<(Bytes, Share<'m>), Refusal> {
    let mut share = memory.share();
    // Most bodies are one frame, which is handed on as it lies in the read buffer.
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = whole.len() + joined.len() + data.len();
        check_length(u64::try_from(length).unwrap_or(u64::MAX), limit)?;
        share.grow(data.len())?;
        if joined.is_empty() && whole.is_empty() {
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    Ok((if joined.is_empty() { whole } else { joined.freeze() }, share))
}

/// Why a body ended before its end.
fn broken(error: &hyper::Error) -> Refusal {
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        // What hyper says of chunks that make no sense.
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Refusal::new(
            Reason::MalformedRequest,
            format!("the body's chunks are malformed: {error}"),
        ),
        _ => Refusal::new(
            Reason::IncompleteRequest,
            format!("the client broke off in the body: {error}"),
        ),
    }
}

fn check_length(length: u64, limit: usize) -> Result<(), Refusal> {
    if usize::try_from(length).is_ok_and(|length| length <= limit) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::BodyTooLarge,
        format!("the body is longer than the {limit} bytes that the source allows"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_a_share_ends_even_a_refused_one() {
        let memory = Memory::new(10);
        let mut first = memory.share();
        first.grow(6).unwrap();
        let mut second = memory.share();
        assert_eq!(second.grow(5).unwrap_err().reason, Reason::Overloaded);
        drop(second);
        first.grow(4).unwrap();
        drop(first);
        memory.share().grow(10).unwrap();
        assert_eq!(memory.held.load(Relaxed), 0);
    }
}
