//! One acceptor: a thread, a runtime, a socket, and the connections that it accepted.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, connection::Server};

/// Accepts and serves on this thread until `stop`, then drains within the grace.
pub(super) fn run(shared: &Arc<Shared>, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let tracker = TaskTracker::new();
        accept(
            shared,
            tokio::net::TcpListener::from_std(listener)?,
            &tracker,
            &stop,
        )
        .await;
        tracker.close();
        if tokio::time::timeout(shared.grace, tracker.wait()).await.is_err() {
            tracing::warn!(
                connections = tracker.len(),
                "connections outlived the grace and were cut"
            );
        }
        Ok(())
    })
}

/// Accepts until `stop`; the socket is closed on return.
async fn accept(
    shared: &Arc<Shared>,
    listener: tokio::net::TcpListener,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    let server = Server::new(Arc::clone(shared), tracker.clone(), stop.clone());
    loop {
        // An accepted connection waits unread until another ends, where there are as many as may be. Dropped at
        // `stop` it is closed, which is what stopping means to it.
        let next = async {
            let accepted = listener.accept().await;
            (accepted, Arc::clone(&shared.connections).acquire_owned().await)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, remote)) => {
                let connection = server.serve(stream, remote.ip());
                tracker.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Whether only the one connection is broken, and the next may be accepted at once.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// How long to rest where the machine has no descriptors or memory left: a connection that ends gives some back.
const REST: Duration = Duration::from_millis(100);
