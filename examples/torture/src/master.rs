//! Tells the puppets what to do in each call, and remembers it: what the router makes of a call is held against this.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use fastrand::Rng;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// What a puppet is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Order {
    Done,
    Skip,
    Retry,
    Fatal,
    Ambiguous,
    /// Done, with an output that nobody keeps.
    Large,
    Panic,
    Crash,
    Wait,
    Deaf,
}

impl Order {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Fatal => "fatal",
            Self::Ambiguous => "ambiguous",
            Self::Large => "large",
            Self::Panic => "panic",
            Self::Crash => "crash",
            Self::Wait => "wait",
            Self::Deaf => "deaf",
        }
    }

    /// Whether the step has come to its end by it.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Done | Self::Skip | Self::Fatal | Self::Ambiguous | Self::Large => true,
            Self::Retry | Self::Panic | Self::Crash | Self::Wait | Self::Deaf => false,
        }
    }
}

/// How likely each order is: so many in a thousand, and the rest are done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather([(Order, u32); 9]);

impl Weather {
    /// Everything is done.
    pub(crate) const FAIR: Self = Self([(Order::Done, 0); 9]);
    pub(crate) const CALM: Self = Self([
        (Order::Skip, 20),
        (Order::Retry, 30),
        (Order::Fatal, 8),
        (Order::Ambiguous, 8),
        (Order::Large, 4),
        (Order::Panic, 8),
        (Order::Crash, 2),
        (Order::Wait, 4),
        (Order::Deaf, 1),
    ]);
    pub(crate) const STORM: Self = Self([
        (Order::Skip, 30),
        (Order::Retry, 200),
        (Order::Fatal, 50),
        (Order::Ambiguous, 50),
        (Order::Large, 15),
        (Order::Panic, 80),
        (Order::Crash, 15),
        (Order::Wait, 30),
        (Order::Deaf, 4),
    ]);

    /// The orders that are given, but for the usual one.
    pub(crate) fn orders(self) -> impl Iterator<Item = Order> {
        self.0.into_iter().map(|(order, _)| order)
    }

    fn order(self, random: &mut Rng) -> Order {
        let mut drawn = random.u32(0..1000);
        for (order, share) in self.0 {
            if drawn < share {
                return order;
            }
            drawn -= share;
        }
        Order::Done
    }
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) told: Told,
    pub(crate) order: Order,
    /// The life of the router in which it was made.
    pub(crate) life: u64,
    /// When it came, among all that happened here.
    pub(crate) came: u64,
    pub(crate) at: Instant,
    /// When its order went out: from then on it may be over, before anybody here gets to know.
    pub(crate) ordered: u64,
    /// When the puppet had heard its order, or nobody was there any more.
    pub(crate) went: u64,
    pub(crate) heard: bool,
}

/// What a puppet says as it is made.
#[derive(Debug, Deserialize)]
struct Creation {
    /// The instance.
    #[serde(rename = "create")]
    _instance: String,
}

/// What a puppet says of a call.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) event: String,
    pub(crate) delivery: String,
    pub(crate) route: String,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    pub(crate) key: String,
    /// Of which attempt it found a receipt; 0 for none.
    pub(crate) found: u32,
    pub(crate) input: Input,
}

/// What the rules gave it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Input {
    pub(crate) set: u64,
    /// What its events are about, the newest last.
    pub(crate) jobs: Vec<String>,
}

impl Told {
    /// What the newest of its events is about.
    pub(crate) fn job(&self) -> &str {
        self.input.jobs.last().map_or("", String::as_str)
    }
}

/// Listens until it is finished.
#[derive(Debug)]
pub(crate) struct Master {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    listening: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    moment: AtomicU64,
    life: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: Vec<Call>,
    /// Idempotency keys under which it has happened: a plugin that looks does not repeat it.
    done: HashSet<String>,
    random: Rng,
    weather: Weather,
    /// Whether puppets may fail to be made.
    unwilling: bool,
    /// How many did.
    unmade: u64,
}

/// What puppets were told.
#[derive(Debug)]
pub(crate) struct Finished {
    /// All calls, in the order in which they came.
    pub(crate) calls: Vec<Call>,
    /// How many puppets failed as they were made.
    pub(crate) unmade: u64,
}

impl Master {
    pub(crate) async fn start(random: Rng) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shared = Arc::new(Shared {
            moment: AtomicU64::new(0),
            life: AtomicU64::new(0),
            state: Mutex::new(State {
                calls: Vec::new(),
                done: HashSet::new(),
                random,
                weather: Weather::CALM,
                unwilling: false,
                unmade: 0,
            }),
        });
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self {
            address,
            shared,
            stop,
            listening,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The router has ended, and what is called from now on is called by its next life.
    pub(crate) fn next_life(&self) {
        self.shared.life.fetch_add(1, Ordering::SeqCst);
    }

    /// The life of the router that is under way.
    pub(crate) fn life(&self) -> u64 {
        self.shared.life.load(Ordering::SeqCst)
    }

    /// The next moment of all that happens.
    pub(crate) fn moment(&self) -> u64 {
        self.shared.moment()
    }

    pub(crate) fn weather(&self, weather: Weather) {
        self.shared.state().weather = weather;
    }

    /// From now on some puppets fail as they are made, or none does. Those of a router that starts, or takes up another plugin, are not
    /// to: they would not be tried again.
    pub(crate) fn unwilling(&self, some: bool) {
        self.shared.state().unwilling = some;
    }

    /// Whoever makes calls must be gone.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Finished> {
        self.stop.cancel();
        while let Some(ended) = self.listening.join_next().await {
            ended.context("the master of puppets panicked")?;
        }
        let mut state = self.shared.state();
        Ok(Finished {
            calls: std::mem::take(&mut state.calls),
            unmade: state.unmade,
        })
    }
}

impl Shared {
    /// Held for a look or a change, and nothing is waited for under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether a puppet is made.
    fn make(&self) -> &'static str {
        let mut state = self.state();
        if state.unwilling && state.random.bool() {
            state.unmade += 1;
            return "fail";
        }
        "done"
    }

    /// Notes a call and decides what it is to do, and after how long.
    fn decide(&self, told: Told) -> (usize, Order, Duration) {
        let came = self.moment();
        let mut state = self.state();
        let State { random, weather, .. } = &mut *state;
        let drawn = weather.order(random);
        let pause = Duration::from_millis(random.u64(0..40));
        // Of the router's own process nothing is to be left over but by a kill; and who mourns is to be heard.
        let drawn = match drawn {
            Order::Crash | Order::Deaf if told.route == IN_PROCESS => Order::Panic,
            Order::Fatal | Order::Ambiguous | Order::Large if told.step == MOURN => Order::Retry,
            drawn => drawn,
        };
        let order = if state.done.contains(&told.key) {
            Order::Done
        } else {
            drawn
        };
        if order == Order::Done {
            state.done.insert(told.key.clone());
        }
        let life = self.life.load(Ordering::SeqCst);
        state.calls.push(Call {
            told,
            order,
            life,
            came,
            at: Instant::now(),
            ordered: u64::MAX,
            went: u64::MAX,
            heard: false,
        });
        (state.calls.len() - 1, order, pause)
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut puppets = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    puppets.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = puppets.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    // All who called are gone, and their connections with them.
    puppets.join_all().await;
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // A line that is cut off was written by a process that is no more: it was not told anything.
    let told = match stream.read_line(&mut line).await {
        Ok(_) if serde_json::from_str::<Creation>(&line).is_ok() => {
            let answer = format!("{}\n", shared.make());
            // Who is gone by now is not made.
            let _ = stream.get_mut().write_all(answer.as_bytes()).await;
            return;
        }
        Ok(_) if line.ends_with('\n') => serde_json::from_str::<Told>(&line),
        Ok(_) | Err(_) => return,
    };
    let Ok(told) = told else { return };
    let (call, order, pause) = shared.decide(told);
    tokio::time::sleep(pause).await;
    let ordered = shared.moment();
    shared.state().calls[call].ordered = ordered;
    let mut heard = String::new();
    let ordered = stream
        .get_mut()
        .write_all(format!("{}\n", order.word()).as_bytes())
        .await;
    let heard = ordered.is_ok() && stream.read_line(&mut heard).await.is_ok_and(|length| length > 0);
    let went = shared.moment();
    let mut state = shared.state();
    (state.calls[call].went, state.calls[call].heard) = (went, heard);
}

/// The route whose instance lives in the router's own process.
pub(crate) const IN_PROCESS: &str = "inner";
/// The step that runs when another was given up.
pub(crate) const MOURN: &str = "mourn";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A call of the step `only` of a delivery `dlv`.
    pub(crate) fn call(attempt: u32, order: Order, heard: bool) -> Call {
        let told = Told {
            event: "evt".into(),
            delivery: "dlv".into(),
            route: crate::site::ORDERED.into(),
            step: "only".into(),
            attempt,
            key: "dlv/only".into(),
            found: attempt - 1,
            input: Input {
                set: 0,
                jobs: vec!["k01-000001".into()],
            },
        };
        let (came, went) = (u64::from(attempt) * 2, u64::from(attempt) * 2 + 1);
        Call {
            told,
            order,
            life: 0,
            came,
            at: Instant::now(),
            ordered: went,
            went,
            heard,
        }
    }
}
