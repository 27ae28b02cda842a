//! How a router hands its listening sockets over to the one that takes its place, so that no connection is refused.
//!
//! The successor connects to a socket in the data directory and is given the listeners (`SCM_RIGHTS`, unix(7)). When it
//! has said that it has them, the router stops as after SIGTERM; its connection to the successor ends when it has, and
//! then the successor waits for the journal's lock, if it is not free yet. What clients do meanwhile waits in the kernel's queue of the listeners, which
//! are the same sockets to both: the queue of one that is closed and bound again would be reset.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
};

use crate::{admin, config};

/// The side that has the sockets.
pub(super) struct HandOver {
    door: UnixListener,
    sockets: Vec<TcpListener>,
    admin: SocketAddr,
}

/// The router that takes over; told that this one is gone when it is dropped.
pub(super) struct Successor {
    _stream: UnixStream,
}

/// The router whose sockets were taken over.
pub(super) struct Predecessor {
    stream: UnixStream,
    process: u32,
}

/// What is said with the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    process: u32,
    /// How many sockets come with it, so that one that got lost is missed.
    sockets: usize,
    /// Where its admin side is, if it says so: that is free when it has stopped.
    #[serde(default)]
    admin: Option<SocketAddr>,
}

impl HandOver {
    /// Listens for a successor; `sockets` are what it will get, and `admin` what it finds free then.
    pub(super) fn prepare(data_dir: &Path, sockets: Vec<TcpListener>, admin: SocketAddr) -> io::Result<Self> {
        if sockets.len() > MOST {
            tracing::warn!(
                sockets = sockets.len(),
                most = MOST,
                "more sockets than can be handed over to a successor"
            );
        }
        Ok(Self {
            door: admin::listen(&door(data_dir))?,
            sockets,
            admin,
        })
    }

    /// Waits until a successor has taken the sockets. Cancel-safe: whoever had not said so gets none.
    pub(super) async fn taken(&self) -> Successor {
        loop {
            let taken = async {
                let (stream, _) = self.door.accept().await?;
                self.offer(stream).await
            };
            match taken.await {
                Ok(successor) => return successor,
                Err(error) => {
                    tracing::warn!(%error, "nobody took the sockets over");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    async fn offer(&self, mut stream: UnixStream) -> io::Result<Successor> {
        let offer = Offer {
            process: std::process::id(),
            sockets: self.sockets.len(),
            admin: Some(self.admin),
        };
        let offer = serde_json::to_vec(&offer)?;
        stream
            .async_io(Interest::WRITABLE, || send(&stream, &offer, &self.sockets))
            .await?;
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut [0; TAKEN.len()])).await??;
        Ok(Successor { _stream: stream })
    }
}

impl Predecessor {
    /// Takes over from the router that runs on `data_dir`: its sockets, which must listen at `address`, and its place: it stops
    /// now, unless the `admin` side of this one could not listen then. `None` where none runs there.
    pub(super) async fn relieve(
        data_dir: &Path,
        address: SocketAddr,
        admin: SocketAddr,
    ) -> io::Result<Option<(Self, Vec<TcpListener>)>> {
        let mut stream = match admin::connect(&door(data_dir)).await {
            Ok(stream) => stream,
            // None was ever there, or it left its door behind.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let received = stream.async_io(Interest::READABLE, || receive(&stream));
        let (offer, sockets) = tokio::time::timeout(PATIENCE, received).await??;
        check(&offer, &sockets, address)?;
        check_admin(&offer, admin)?;
        stream.write_all(TAKEN).await?;
        let process = offer.process;
        Ok(Some((Self { stream, process }, sockets)))
    }

    /// The process that is being relieved.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) {
        // It says nothing more; that its end is closed is all there is to hear.
        let _ = self.stream.read(&mut [0; 1]).await;
    }
}

/// Refuses what would leave clients waiting at a socket that nobody accepts from.
fn check(offer: &Offer, sockets: &[TcpListener], address: SocketAddr) -> io::Result<()> {
    if sockets.len() != offer.sockets {
        let (came, sent) = (sockets.len(), offer.sockets);
        return Err(io::Error::other(format!(
            "{came} of its {sent} sockets came over; this process may have too few descriptors left (`ulimit -n`)"
        )));
    }
    for socket in sockets {
        let listens = socket.local_addr()?;
        if listens != address && address.port() != 0 {
            return Err(io::Error::other(format!(
                "it listens at {listens}, and `address` in `[listen]` is {address}: another address takes a stop and a start"
            )));
        }
    }
    Ok(())
}

/// Refuses an address of the admin side that somebody else has: found out later, it would cost the service.
fn check_admin(offer: &Offer, admin: SocketAddr) -> io::Result<()> {
    match offer.admin {
        Some(before) if before.port() != admin.port() => {
            TcpListener::bind(admin).map(drop).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("the admin side cannot listen at {admin}: {error}"),
                )
            })
        }
        // It is the one that runs who has it.
        Some(_) | None => Ok(()),
    }
}

fn send(stream: &UnixStream, offer: &[u8], sockets: &[TcpListener]) -> io::Result<()> {
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other(format!(
            "there are {} sockets, and {MOST} can be handed over",
            sockets.len()
        )));
    }
    sendmsg(stream, &[IoSlice::new(offer)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<(Offer, Vec<TcpListener>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut offer = [0; 1024];
    let message = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut offer)],
        &mut ancillary,
        // No plugin's process is to have them.
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors.map(|descriptor: OwnedFd| TcpListener::from(descriptor)));
        }
    }
    let offer = serde_json::from_slice(&offer[..message.bytes])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((offer, sockets))
}

fn door(data_dir: &Path) -> PathBuf {
    data_dir.join("hand-over.sock")
}

/// What a successor says when it has the sockets.
const TAKEN: &[u8] = b"taken\n";
const MOST: usize = config::MOST_ACCEPTORS;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST));
/// How long either side waits for a word of the other, which is on the same machine and waits for nothing.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
const REST: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Some address for an admin side, where it does not matter.
    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn listener() -> TcpListener {
        TcpListener::bind(("127.0.0.1", 0)).unwrap()
    }

    #[tokio::test]
    async fn a_successor_gets_the_sockets_themselves_and_hears_of_the_end() {
        let home = tempfile::tempdir().unwrap();
        let first = listener();
        let second = first.try_clone().unwrap();
        let (address, waiting) = (
            first.local_addr().unwrap(),
            std::net::TcpStream::connect(first.local_addr().unwrap()),
        );
        assert!(
            Predecessor::relieve(home.path(), address, ANY)
                .await
                .unwrap()
                .is_none()
        );

        let hand_over = HandOver::prepare(home.path(), vec![first, second], ANY).unwrap();
        let (successor, relieved) =
            tokio::join!(hand_over.taken(), Predecessor::relieve(home.path(), address, ANY));
        let (mut predecessor, sockets) = relieved.unwrap().unwrap();
        assert_eq!((sockets.len(), predecessor.process()), (2, std::process::id()));
        drop(hand_over);
        // Who had connected before is still in the queue.
        let (_, client) = sockets[0].accept().unwrap();
        assert_eq!(client, waiting.unwrap().local_addr().unwrap());
        tokio::select! {
            biased;
            () = predecessor.ended() => panic!("it has not ended yet"),
            () = std::future::ready(()) => {}
        }
        drop(successor);
        predecessor.ended().await;
        // What it leaves behind is no router.
        assert!(
            Predecessor::relieve(home.path(), address, ANY)
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn what_is_of_no_use_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let hand_over = HandOver::prepare(home.path(), vec![listener()], ANY).unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let error = tokio::select! {
            _ = hand_over.taken() => panic!("nobody takes it"),
            relieved = Predecessor::relieve(home.path(), elsewhere, ANY) => relieved.err().unwrap(),
        };
        assert!(
            error
                .to_string()
                .ends_with("another address takes a stop and a start"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn who_only_knocks_takes_nothing_over() {
        let home = tempfile::tempdir().unwrap();
        let hand_over = HandOver::prepare(home.path(), vec![listener()], ANY).unwrap();
        let knock = async {
            drop(admin::connect(&door(home.path())).await.unwrap());
            let address = hand_over.sockets[0].local_addr().unwrap();
            Predecessor::relieve(home.path(), address, ANY)
                .await
                .unwrap()
                .unwrap()
        };
        let (_successor, (predecessor, sockets)) = tokio::join!(hand_over.taken(), knock);
        assert_eq!((sockets.len(), predecessor.process()), (1, std::process::id()));
    }
}
