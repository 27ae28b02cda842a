//! Where the plugin reports: counts how often each event came, outside of the router and of its lives.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Listens until it is finished.
#[derive(Debug)]
pub(crate) struct Counter {
    address: SocketAddr,
    counts: Arc<Mutex<HashMap<String, u64>>>,
    stop: CancellationToken,
    listening: JoinSet<()>,
}

impl Counter {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (counts, stop) = (Arc::default(), CancellationToken::new());
        let address = listener.local_addr()?;
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, Arc::clone(&counts), stop.clone()));
        Ok(Self {
            address,
            counts,
            stop,
            listening,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads all connections to their ends, and gives what was counted. Whoever reports must be gone.
    pub(crate) async fn finish(mut self) -> anyhow::Result<HashMap<String, u64>> {
        self.stop.cancel();
        while let Some(ended) = self.listening.join_next().await {
            ended.context("the counter panicked")?;
        }
        Ok(std::mem::take(
            &mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

async fn listen(listener: TcpListener, counts: Arc<Mutex<HashMap<String, u64>>>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        // Connections that wait to be accepted come before the end.
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(count(stream, Arc::clone(&counts)));
                }
            }
            () = stop.cancelled() => break,
        }
    }
    connections.join_all().await;
}

/// Counts whole lines, and says of each that it has. One without an end was cut off by the end of the router, and was not
/// reported.
async fn count(stream: TcpStream, counts: Arc<Mutex<HashMap<String, u64>>>) {
    let (from, mut to) = stream.into_split();
    let mut reader = BufReader::new(from);
    let mut line = String::new();
    while reader.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        if let Some(id) = line.strip_suffix('\n') {
            let count = |counts: &mut HashMap<String, u64>| *counts.entry(id.to_owned()).or_default() += 1;
            count(&mut counts.lock().unwrap_or_else(PoisonError::into_inner));
            // Whoever does not hear it reports again.
            let _ = to.write_all(b"\n").await;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whole_lines_of_all_connections_are_counted() {
        let counter = Counter::start().await.unwrap();
        for text in ["evt_1\nevt_2\n", "evt_2\nevt_3"] {
            let mut stream = TcpStream::connect(counter.address()).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        let counts = counter.finish().await.unwrap();
        let expected = [("evt_1".to_owned(), 1), ("evt_2".to_owned(), 2)];
        assert_eq!(counts, HashMap::from(expected));
    }
}
