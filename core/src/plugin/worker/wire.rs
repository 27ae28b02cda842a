//! The frames between router and worker, and what writes and reads them.
//!
//! A frame is its length in four bytes, the lowest first, and that many bytes of [postcard]. Both ends are one
//! program, so that what is on the wire is nobody else's business; either says all the same what it speaks ([`Hello`]), since
//! the file may have been replaced while the router runs. Whatever waits is written at once.
//!
//! Bodies go through the socket, however long. To put them into a sealed memory file and pass that on takes two to six times
//! as long at any length from 16 KiB to 5 MiB: making its pages, and mapping or reading them, costs more than the copies spared.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use std::{
    ffi::OsString, fmt, io, marker::PhantomData, os::unix::ffi::OsStringExt as _, sync::Arc, time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use jackfield_event::DeliveryId;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, SeqAccess, Visitor},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Limits;
use crate::plugin::{HostError, Receipt, Report, RequestCall, Sandbox, StepCall, Tally, stage::Voucher};

/// What both ends must agree on. It counts up when something changes that was there before; what is only added is a feature.
pub(super) const PROTOCOL: u32 = 5;

/// How many questions a worker may have that are not answered yet. Who asks more does not read what it is answered, and does
/// not speak this protocol.
pub(super) const QUESTIONS: usize = 256;

/// Labels, of which there are never many: a list of empty ones would take far more room than it took on its way.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_LABELS} labels")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut labels: A) -> Result<Self::Value, A::Error> {
            let mut few = Vec::new();
            while let Some(label) = labels.next_element()? {
                if few.len() == MOST_LABELS {
                    return Err(de::Error::invalid_length(few.len() + 1, &self));
                }
                few.push(label);
            }
            Ok(few)
        }
    }

    from.deserialize_seq(Few)
}

/// As many as a plugin's longest text of them can hold.
const MOST_LABELS: usize = 4096;

/// What an end says first, before it has heard anything. It is JSON, of which either end reads what it knows, so that two that
/// differ still understand each other so far.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    protocol: u32,
    /// What this end knows beyond the protocol, by names. Those that the other one does not know are nothing to it.
    #[serde(default)]
    features: Vec<String>,
}

/// What both ends know beyond the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// [`Order::Level`].
    pub(super) level: bool,
}

impl Hello {
    fn ours() -> Self {
        Self {
            protocol: PROTOCOL,
            features: vec![LEVEL.to_owned()],
        }
    }

    /// What both ends know, the other one having said this.
    ///
    /// # Errors
    ///
    /// The protocol that it speaks, where that is another one.
    pub(super) fn agree(&self) -> Result<Features, u32> {
        let knows = |name: &str| self.features.iter().any(|feature| feature == name);
        match self.protocol {
            PROTOCOL => Ok(Features { level: knows(LEVEL) }),
            other => Err(other),
        }
    }
}

/// From the router to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make the instance; the first order, once.
    Start(Box<Start>),
    /// Make a call.
    Call(u64, Call),
    /// Have a request verified and translated, which ends as a call does.
    Receive(u64, Received),
    /// Ask a call to end.
    Cancel(u64),
    /// The answer to a question.
    Answer(u64, Answer),
    /// Say that you are there.
    Ping(u64),
    /// End the instance, and yourself.
    End(Duration),
    /// Log this from now on, as [`Start::level`] says it.
    Level(u32),
}

/// From the worker to the router.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Notice {
    /// The instance is there, or why it is not.
    Started(Result<(), Refusal>),
    /// A call has ended.
    Ended(u64, Report),
    /// The plugin asks the router for something.
    Ask(u64, Question),
    /// It counts.
    Metric {
        name: String,
        #[serde(deserialize_with = "few")]
        labels: Vec<(String, String)>,
        value: f64,
    },
    /// It logs, for a call or for itself.
    Log {
        call: Option<u64>,
        level: u32,
        target: String,
        message: String,
        fields: String,
    },
    /// The answer to a ping, and how many calls go on although nobody waits for them.
    Pong(u64, usize),
    /// The instance has ended: all of it, or all but what is stuck.
    Over { whole: bool },
}

/// With what an instance is made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) library: Voucher,
    pub(super) plugin: String,
    pub(super) instance: String,
    /// JSON.
    pub(super) config: String,
    pub(super) secrets: Vec<(String, String)>,
    pub(super) limit: Duration,
    pub(super) grace: Duration,
    pub(super) limits: Limits,
    pub(super) sandbox: Sandbox,
    /// What is logged: 0 nothing, 1 error … 5 trace.
    pub(super) level: u32,
}

/// Why there is no instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) words: String,
    /// The plugin's own code and words, where it is the plugin that says no.
    pub(super) own: Option<(u32, String)>,
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self { words, own: None }
    }
}

/// A [`StepCall`], but for what lives in one process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    event: Bytes,
    input: Bytes,
    delivery: DeliveryId,
    route: String,
    step: String,
    attempt: u32,
    idempotency_key: String,
    left: Duration,
    workdir: Bytes,
}

impl Call {
    pub(super) fn of(call: StepCall) -> Self {
        Self {
            event: call.event,
            input: call.input,
            delivery: call.delivery,
            route: call.route,
            step: call.step,
            attempt: call.attempt,
            idempotency_key: call.idempotency_key,
            left: call.deadline.saturating_duration_since(Instant::now()),
            workdir: call.workdir.into_os_string().into_vec().into(),
        }
    }

    /// The call again, which `cancelled` asks to end.
    pub(super) fn step_call(self, cancelled: CancellationToken) -> StepCall {
        StepCall {
            event: self.event,
            input: self.input,
            delivery: self.delivery,
            route: self.route,
            step: self.step,
            attempt: self.attempt,
            idempotency_key: self.idempotency_key,
            deadline: Instant::now() + self.left,
            workdir: OsString::from_vec(self.workdir.into()).into(),
            cancelled,
        }
    }
}

/// A [`RequestCall`], but for what lives in one process.
#[derive(Serialize, Deserialize)]
pub(super) struct Received {
    head: Bytes,
    body: Bytes,
    left: Duration,
}

impl Received {
    pub(super) fn of(request: RequestCall) -> Self {
        Self {
            head: request.head,
            body: request.body,
            left: request.deadline.saturating_duration_since(Instant::now()),
        }
    }

    /// The request again, which `cancelled` asks to end.
    pub(super) fn request_call(self, cancelled: CancellationToken) -> RequestCall {
        RequestCall {
            head: self.head,
            body: self.body,
            deadline: Instant::now() + self.left,
            cancelled,
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its head has secrets in it.
        f.debug_struct("Received")
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a plugin may ask; always for its own instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Value {
        key: String,
    },
    Put {
        key: String,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    },
    /// A secret that the instance was not made with.
    Secret {
        name: String,
    },
    Receipt {
        key: String,
    },
    Keep {
        key: String,
        receipt: Receipt,
    },
    Emit {
        key: String,
        event: Bytes,
    },
}

impl Question {
    /// Whether it is about what the router has, so that its answer may be long.
    pub(super) fn is_to_read(&self) -> bool {
        match self {
            Self::Value { .. } | Self::Secret { .. } | Self::Receipt { .. } => true,
            Self::Put { .. } | Self::Keep { .. } | Self::Emit { .. } => false,
        }
    }
}

/// What it is answered.
pub(super) type Answer = Result<Given, HostError>;

/// A good answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Given {
    /// It is done; with a value, where one was asked for and is there.
    Value(Option<Bytes>),
    Receipt(Option<Receipt>),
}

/// Where frames of one kind are handed in. They are written by what [`outbox`] returns beside it.
///
/// So much may wait to be written and no more, in bytes and in number, since the other end need not read at all.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    frames: mpsc::Sender<Waiting>,
    /// One permit for each byte.
    room: Arc<Semaphore>,
    kind: PhantomData<fn(T)>,
}

/// A frame, and its room, which is free again when it is written.
type Waiting = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// A frame that there is room for.
pub(super) struct Place<'o> {
    slot: mpsc::Permit<'o, Waiting>,
    waiting: Waiting,
}

impl Place<'_> {
    /// Hands it in.
    pub(super) fn take(self) {
        self.slot.send(self.waiting);
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self {
            frames: self.frames.clone(),
            room: Arc::clone(&self.room),
            kind: PhantomData,
        }
    }
}

/// The other end is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// What came is no frame.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Garbage(pub(super) String);

impl From<Garbage> for io::Error {
    fn from(garbage: Garbage) -> Self {
        Self::new(io::ErrorKind::InvalidData, garbage)
    }
}

impl<T: Serialize> Outbox<T> {
    /// Says hello, before anything else.
    pub(super) async fn greet(&self) -> Result<(), Gone> {
        let mut bytes = headed();
        serde_json::to_writer(&mut bytes, &Hello::ours()).expect("it is a number and names");
        let hello = (measured(bytes), None);
        self.frames.send(hello).await.map_err(|_| Gone)
    }

    /// Hands a frame in, once there is room for it.
    pub(super) async fn send(&self, frame: &T) -> Result<(), Gone> {
        self.place(frame).await.map(Place::take)
    }

    /// Waits for room for a frame, which is handed in as it is taken. Whoever came before is served before.
    pub(super) async fn place(&self, frame: &T) -> Result<Place<'_>, Gone> {
        let frame = encode(frame);
        // One that is longer than all the room goes when it has that for itself.
        let bytes = u32::try_from(frame.len()).map_or(ROOM, |bytes| bytes.clamp(LEAST, ROOM));
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        let room = room.await.map_err(|_| Gone)?;
        let slot = self.frames.reserve().await.map_err(|_| Gone)?;
        Ok(Place {
            slot,
            waiting: (frame, Some(room)),
        })
    }

    /// Hands a short frame in where there is a place left; `false` where there is none and it is lost. It needs no room, so that
    /// what waits for room does not stand in its way.
    pub(super) fn offer(&self, frame: &T) -> bool {
        self.frames.try_send((encode(frame), None)).is_ok()
    }
}

/// An outbox, and the work of writing what is handed in: until the other end is gone, or nobody can hand in any more. The
/// `tally` says whether there are others who are about to.
pub(super) fn outbox<T>(
    mut stream: OwnedWriteHalf,
    tally: Arc<Tally>,
) -> (Outbox<T>, impl Future<Output = ()> + Send) {
    let (frames, mut waiting) = mpsc::channel::<Waiting>(WAITING);
    let write = async move {
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        while waiting.recv_many(&mut batch, WAITING).await > 0 {
            // Whoever else is about to hand something in does so first: one write for many frames. A lone call has nobody to
            // wait for.
            if tally.in_flight() > 1 {
                tokio::task::yield_now().await;
            }
            while batch.len() < WAITING
                && let Ok(frame) = waiting.try_recv()
            {
                batch.push(frame);
            }
            let written = match &batch[..] {
                [(frame, _)] => stream.write_all(frame).await,
                frames => {
                    bytes.clear();
                    frames
                        .iter()
                        .for_each(|(frame, _)| bytes.extend_from_slice(frame));
                    stream.write_all(&bytes).await
                }
            };
            if written.is_err() {
                return;
            }
            batch.clear();
            bytes.shrink_to(BUFFER);
        }
    };
    (
        Outbox {
            frames,
            room: Arc::new(Semaphore::new(ROOM.try_into().unwrap_or(usize::MAX))),
            kind: PhantomData,
        },
        write,
    )
}

/// Reads frames of one kind.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    stream: OwnedReadHalf,
    bytes: BytesMut,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Inbox<T> {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            bytes: BytesMut::with_capacity(BUFFER),
            kind: PhantomData,
        }
    }

    /// The next frame; `None` where the other end is gone, in order or not. May be dropped and called again: what was
    /// read stays.
    ///
    /// # Errors
    ///
    /// Where what comes is no frame.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Garbage> {
        let Some(frame) = self.frame().await? else {
            return Ok(None);
        };
        let read = postcard::from_bytes(&frame);
        read.map(Some).map_err(|error| Garbage(error.to_string()))
    }

    /// What the other end says first; `None` where it is gone.
    ///
    /// # Errors
    ///
    /// Where it says something else.
    pub(super) async fn hello(&mut self) -> Result<Option<Hello>, Garbage> {
        let Some(frame) = self.frame().await? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&frame);
        read.map(Some)
            .map_err(|error| Garbage(format!("no hello: {error}")))
    }

    async fn frame(&mut self) -> Result<Option<BytesMut>, Garbage> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            // A process that dies with something unread resets its socket.
            if matches!(self.stream.read_buf(&mut self.bytes).await, Ok(0) | Err(_)) {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<BytesMut>, Garbage> {
        let Some(length) = self.bytes.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(Garbage(format!(
                "a frame of {length} bytes, of {LONGEST} at most"
            )));
        }
        if self.bytes.len() < HEAD + length {
            self.bytes.reserve(HEAD + length - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(HEAD);
        Ok(Some(self.bytes.split_to(length)))
    }
}

fn encode(frame: &impl Serialize) -> Vec<u8> {
    let bytes = postcard::to_extend(frame, headed());
    measured(bytes.expect("frames have no maps or sequences of unknown length"))
}

/// The beginning of a frame, with room for its length.
fn headed() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL);
    bytes.resize(HEAD, 0);
    bytes
}

/// A whole frame: it begins with its length.
fn measured(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX);
    bytes[..HEAD].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The name of the feature that is [`Order::Level`].
const LEVEL: &str = "level";
/// Bytes of a frame's length.
const HEAD: usize = size_of::<u32>();
/// The longest frame: an event of the largest body, its input, and room to spare.
const LONGEST: usize = 64 << 20;
/// Bytes of most frames.
const USUAL: usize = 2048;
/// Frames that may wait to be written.
const WAITING: usize = 1024;
/// Bytes of those that wait for room: one event of the largest body, or many of the usual size.
const ROOM: u32 = 8 << 20;
/// What the shortest of them counts for, so that they leave half of the places to what is offered.
const LEAST: u32 = ROOM / 512;
/// Bytes of a buffer that is kept.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn pair() -> (OwnedReadHalf, OwnedWriteHalf) {
        let (a, b) = tokio::net::UnixStream::pair().unwrap();
        (a.into_split().0, b.into_split().1)
    }

    #[test]
    fn many_labels_are_refused_before_there_is_room_for_them() {
        for (count, fits) in [(MOST_LABELS, true), (MOST_LABELS + 1, false), (4 << 20, false)] {
            let notice = Notice::Metric {
                name: "posts".to_owned(),
                labels: vec![(String::new(), String::new()); count],
                value: 1.0,
            };
            let read = postcard::from_bytes::<Notice>(&postcard::to_allocvec(&notice).unwrap());
            assert_eq!(read.is_ok(), fits, "{count}");
        }
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_however_they_are_cut() {
        let (read, mut write) = pair().await;
        let bytes = [
            encode(&Order::Ping(7)),
            encode(&Order::Cancel(8)),
            encode(&Order::Ping(9)),
        ]
        .concat();
        let writing = async {
            for byte in bytes {
                write.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(write);
        };
        let reading = async {
            let mut inbox = Inbox::<Order>::new(read);
            assert!(matches!(inbox.next().await.unwrap(), Some(Order::Ping(7))));
            assert!(matches!(inbox.next().await.unwrap(), Some(Order::Cancel(8))));
            assert!(matches!(inbox.next().await.unwrap(), Some(Order::Ping(9))));
            assert!(inbox.next().await.unwrap().is_none());
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn ends_agree_on_what_both_know_and_on_nothing_where_their_protocols_differ() {
        let level = Ok(Features { level: true });
        for (hello, agreed) in [
            (json!({ "protocol": PROTOCOL, "features": ["level"] }), level),
            (
                json!({ "protocol": PROTOCOL, "features": ["of tomorrow", "level"], "more": 1 }),
                level,
            ),
            (
                json!({ "protocol": PROTOCOL, "features": ["of tomorrow"] }),
                Ok(Features::default()),
            ),
            (json!({ "protocol": PROTOCOL }), Ok(Features::default())),
            (
                json!({ "protocol": PROTOCOL + 1, "features": ["level"] }),
                Err(PROTOCOL + 1),
            ),
        ] {
            let (read, mut write) = pair().await;
            let mut bytes = headed();
            bytes.extend(hello.to_string().bytes());
            write.write_all(&measured(bytes)).await.unwrap();
            let mut inbox = Inbox::<Order>::new(read);
            assert_eq!(inbox.hello().await.unwrap().unwrap().agree(), agreed, "{hello}");
        }
        let (read, write) = pair().await;
        let (outbox, writing) = outbox::<Order>(write, Arc::default());
        outbox.greet().await.unwrap();
        drop(outbox);
        writing.await;
        let ours = Inbox::<Order>::new(read).hello().await.unwrap().unwrap();
        assert_eq!(ours.agree(), level);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        for garbage in [&[0xff; 64][..], &[2, 0, 0, 0, 0xfe, 0xff]] {
            let (read, mut write) = pair().await;
            write.write_all(garbage).await.unwrap();
            Inbox::<Order>::new(read).next().await.unwrap_err();
            let (read, mut write) = pair().await;
            write.write_all(garbage).await.unwrap();
            Inbox::<Order>::new(read).hello().await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn no_more_waits_than_there_is_room_for_whoever_does_not_read() {
        let (mut read, write) = pair().await;
        let (outbox, writing) = outbox::<Order>(write, Arc::default());
        let long = |id| Order::Answer(id, Ok(Given::Value(Some(vec![0; 3 << 20].into()))));
        let mut writing = std::pin::pin!(writing);
        let mut handed_in = 0;
        // What is being written counts until it is.
        loop {
            let order = long(handed_in);
            tokio::select! {
                biased;
                () = &mut writing => panic!("nobody reads, and so it does not end"),
                sent = outbox.send(&order) => sent.unwrap(),
                () = std::future::ready(()) => break,
            }
            handed_in += 1;
        }
        assert_eq!(handed_in, 2);
        for number in 0..100 {
            assert!(
                outbox.offer(&Order::Ping(number)),
                "it is short, and waits for no room"
            );
        }
        let longer = Order::Answer(7, Ok(Given::Value(Some(vec![0; 9 << 20].into()))));
        let handing_in = async {
            // Dropped, its place is somebody else's.
            drop(outbox.place(&longer).await.unwrap());
            outbox.send(&longer).await.unwrap();
            drop(outbox);
        };
        let reading = async {
            let mut bytes = Vec::new();
            read.read_to_end(&mut bytes).await.unwrap();
            bytes.len()
        };
        let ((), (), length) = tokio::join!(handing_in, writing, reading);
        assert!((15 << 20..16 << 20).contains(&length), "{length}");
    }

    #[tokio::test]
    async fn what_is_handed_in_is_written_until_nobody_can_any_more() {
        let (read, write) = pair().await;
        let (outbox, writing) = outbox::<Notice>(write, Arc::default());
        let handing_in = async move {
            for number in 0..5_000 {
                outbox.send(&Notice::Pong(number, 0)).await.unwrap();
            }
        };
        let reading = async {
            let mut inbox = Inbox::<Notice>::new(read);
            let mut count = 0;
            while let Some(notice) = inbox.next().await.unwrap() {
                assert!(matches!(notice, Notice::Pong(number, 0) if number == count));
                count += 1;
            }
            count
        };
        let ((), (), count) = tokio::join!(handing_in, writing, reading);
        assert_eq!(count, 5_000);
    }
}
