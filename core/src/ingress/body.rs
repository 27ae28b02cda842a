//! Bodies: read whole, within a length, a time and a share of memory.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;

use super::receive::Refusal;
use crate::reason::Reason;

/// The bytes of bodies that may lie in memory at a time, over all connections.
///
/// Where there is no room, what has been on its way for longest is given up in favour of what comes: whoever begins bodies
/// and never ends them is in nobody's way. What comes in one piece, as most does, is never on its way, and takes no lock.
pub(super) struct Memory {
    held: AtomicUsize,
    limit: usize,
    /// Locked for moments; no other lock is taken meanwhile.
    parts: Mutex<Parts>,
}

/// Bodies of which a part is here, by when they began, and how many have begun so far.
#[derive(Default)]
struct Parts {
    here: BTreeMap<u64, Part>,
    begun: u64,
}

/// What is here of a body that is on its way.
struct Part {
    bytes: usize,
    /// Dropped where it is given up.
    _awaited: oneshot::Sender<()>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            limit,
            parts: Mutex::default(),
        }
    }

    /// A share of nothing yet.
    fn share(&self) -> Share<'_> {
        Share {
            memory: self,
            bytes: 0,
            part: None,
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the oldest of what is on its way until the rest fits; says whether it does. Their memory counts as free at once,
    /// and is when their tasks come to know.
    fn make_room(&self) -> bool {
        let mut parts = self.parts();
        while self.held.load(Relaxed) > self.limit {
            let Some((_, part)) = parts.here.pop_first() else {
                return false;
            };
            self.held.fetch_sub(part.bytes, Relaxed);
        }
        true
    }

    fn refusal(&self, what: &str) -> Refusal {
        Refusal::new(
            Reason::Overloaded,
            format!("{what} all of the {} bytes set aside for them", self.limit),
        )
    }
}

/// Bytes that are accounted for until it is dropped.
pub(super) struct Share<'m> {
    memory: &'m Memory,
    /// Those that are not among the parts.
    bytes: usize,
    /// Under which number it is among the parts, unless it was given up.
    part: Option<u64>,
}

impl Share<'_> {
    /// Says that more is to come, so that it may be given up from now on; gives what ends where it is.
    fn begin(&mut self) -> oneshot::Receiver<()> {
        let (awaited, given_up) = oneshot::channel();
        let mut parts = self.memory.parts();
        let number = parts.begun;
        parts.begun += 1;
        let part = Part {
            bytes: std::mem::take(&mut self.bytes),
            _awaited: awaited,
        };
        parts.here.insert(number, part);
        self.part = Some(number);
        given_up
    }

    /// Accounts for `more` bytes, or says that there is no room.
    fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        match self.part {
            None => self.bytes += more,
            Some(number) => match self.memory.parts().here.get_mut(&number) {
                None => return Err(self.given_up()),
                Some(part) => part.bytes += more,
            },
        }
        let held = self.memory.held.fetch_add(more, Relaxed) + more;
        match held <= self.memory.limit || self.memory.make_room() {
            true => Ok(()),
            false => Err(self.memory.refusal("bodies in flight take")),
        }
    }

    /// Says that all is here, so that it is not given up any more; or that it was.
    fn end(&mut self) -> Result<(), Refusal> {
        let Some(number) = self.part.take() else {
            return Ok(());
        };
        let part = self.memory.parts().here.remove(&number);
        self.bytes = part.ok_or_else(|| self.given_up())?.bytes;
        Ok(())
    }

    fn given_up(&self) -> Refusal {
        self.memory
            .refusal("it had been on its way for longest when bodies in flight took")
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        // Of one that was given up nothing is left to account for.
        let _ = self.end();
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
    let mut given_up = None;
    loop {
        let frame = match &mut given_up {
            None => body.frame().await,
            Some(given_up) => tokio::select! {
                biased;
                _ = given_up => return Err(share.given_up()),
                frame = body.frame() => frame,
            },
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = whole.len() + joined.len() + data.len();
        check_length(u64::try_from(length).unwrap_or(u64::MAX), limit)?;
        if given_up.is_none() && !body.is_end_stream() {
            given_up = Some(share.begin());
        }
        share.grow(data.len())?;
        if joined.is_empty() && whole.is_empty() {
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    share.end()?;
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

    #[test]
    fn what_has_been_on_its_way_for_longest_is_given_up_and_nothing_that_is_whole() {
        let memory = Memory::new(10);
        let [mut whole, mut oldest, mut newer, mut comes] = [(); 4].map(|()| memory.share());
        drop(whole.begin());
        whole.grow(2).unwrap();
        let mut lost = oldest.begin();
        oldest.grow(4).unwrap();
        let mut kept = newer.begin();
        newer.grow(4).unwrap();
        whole.end().unwrap();
        let is_given_up = |given_up: &mut oneshot::Receiver<()>| {
            given_up.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert!(!is_given_up(&mut lost));

        comes.grow(3).unwrap();
        assert!(is_given_up(&mut lost) && !is_given_up(&mut kept));
        assert_eq!(oldest.grow(1).unwrap_err().reason, Reason::Overloaded);
        assert_eq!(oldest.end().unwrap_err().reason, Reason::Overloaded);
        drop(oldest);
        assert_eq!(memory.held.load(Relaxed), 2 + 4 + 3);
        // Even if it is the one that grows.
        newer.grow(2).unwrap();
        assert!(is_given_up(&mut kept));
        assert_eq!(newer.end().unwrap_err().reason, Reason::Overloaded);
        // There is nothing left that could be given up.
        assert_eq!(comes.grow(6).unwrap_err().reason, Reason::Overloaded);
        drop((whole, newer, comes));
        assert_eq!(memory.held.load(Relaxed), 0);
    }
}
