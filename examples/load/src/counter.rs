//! Where the plugin reports: counts how often each event came, and which generation of the plugin handled how many, outside of
//! the router and of its lives.

use std::{
    collections::{BTreeMap, HashMap},
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
    counts: Arc<Mutex<Counts>>,
    stop: CancellationToken,
    listening: JoinSet<()>,
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How often each event was reported.
    pub(crate) events: HashMap<String, u64>,
    /// How many reports bore which stamp; an empty one, those of a plugin without.
    pub(crate) stamps: BTreeMap<String, u64>,
}

impl Counts {
    fn count(&mut self, line: &str) {
        let (id, stamp) = line.split_once(' ').unwrap_or((line, ""));
        *self.events.entry(id.to_owned()).or_default() += 1;
        *self.stamps.entry(stamp.to_owned()).or_default() += 1;
    }
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
    pub(crate) async fn finish(mut self) -> anyhow::Result<Counts> {
        self.stop.cancel();
        while let Some(ended) = self.listening.join_next().await {
            ended.context("the counter panicked")?;
        }
        Ok(std::mem::take(
            &mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

async fn listen(listener: TcpListener, counts: Arc<Mutex<Counts>>, stop: CancellationToken) {
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
async fn count(stream: TcpStream, counts: Arc<Mutex<Counts>>) {
    let (from, mut to) = stream.into_split();
    let mut reader = BufReader::new(from);
    let mut line = String::new();
    while reader.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        if let Some(line) = line.strip_suffix('\n') {
            counts.lock().unwrap_or_else(PoisonError::into_inner).count(line);
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
        for text in ["evt_1\nevt_2 0007\n", "evt_2\nevt_3"] {
            let mut stream = TcpStream::connect(counter.address()).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        let counts = counter.finish().await.unwrap();
        let expected = Counts {
            events: HashMap::from([("evt_1".to_owned(), 1), ("evt_2".to_owned(), 2)]),
            stamps: BTreeMap::from([(String::new(), 2), ("0007".to_owned(), 1)]),
        };
        assert_eq!(counts, expected);
    }
}
