//! Clients that are slow, break off, or speak something else.

use std::time::Duration;

use jackfield::clock::{Clock as _, SystemClock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::site::{BODY_SIZE, SECRET, Site, screen, signed};

/// A client on bytes.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(site: &Site) -> Self {
        Self(TcpStream::connect(site.router.ingress()).await.unwrap())
    }

    /// Sends; whoever is turned away in the middle has an answer to read.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Sends a byte at a time until it is turned away.
    async fn drip(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().cycle() {
            if self.0.write_all(&[*byte]).await.is_err() {
                return;
            }
            let mut answer = [0];
            let patience = Duration::from_millis(20);
            if tokio::time::timeout(patience, self.0.peek(&mut answer))
                .await
                .is_ok()
            {
                return;
            }
        }
    }

    /// Reads until `end` has come.
    pub(crate) async fn until(&mut self, end: &str) {
        let mut heard = String::new();
        while !heard.ends_with(end) {
            let byte = self
                .0
                .read_u8()
                .await
                .unwrap_or_else(|error| panic!("{error} after {heard}"));
            heard.push(byte.into());
        }
    }

    /// What it hears until the router ends the connection.
    pub(crate) async fn hears(&mut self) -> String {
        let mut heard = Vec::new();
        // A reset ends it as well.
        let _ = self.0.read_to_end(&mut heard).await;
        String::from_utf8_lossy(&heard).into_owned()
    }
}

/// The head of a signed request for `body`, and `more` headers.
pub(crate) fn head(body: &[u8], delivery: &str, more: &str) -> String {
    let mut head = "POST /in/screens HTTP/1.1\r\nhost: site\r\n".to_owned();
    for (name, value) in &signed(body, SECRET, SystemClock.now(), delivery) {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    head + more + "\r\n"
}

/// With a length.
pub(crate) fn with_length(body: &[u8], delivery: &str) -> String {
    head(body, delivery, &format!("content-length: {}\r\n", body.len()))
}

#[tokio::test]
async fn clients_that_take_their_time_are_turned_away_while_others_are_served() {
    let mut site = Site::prepare();
    site.listen("header_timeout = \"1s\"\nbody_timeout = \"1s\"");
    site.router.start().await.unwrap();
    // Many who never finish their headers, and do not take up what others need.
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(&site).await;
        client.send("POST /in/screens HTTP/1.1\r\nx-").await;
        crowd.push(client);
    }
    assert_eq!(site.zeplin_posts("among many").await.status, 200);
    for client in &mut crowd {
        client.hears().await;
    }

    let body = screen();
    let mut header_by_header = Client::connect(&site).await;
    header_by_header.send("POST /in/screens HTTP/1.1\r\n").await;
    header_by_header.drip(b"x: 1\r\n").await;
    header_by_header.hears().await;

    let mut half_a_body = Client::connect(&site).await;
    half_a_body.send(with_length(&body, "half")).await;
    half_a_body.send(&body[..body.len() / 2]).await;
    let answer = half_a_body.hears().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut byte_by_byte = Client::connect(&site).await;
    byte_by_byte
        .send(head(&body, "drip", "content-length: 100000\r\n"))
        .await;
    byte_by_byte.drip(b" ").await;
    let answer = byte_by_byte.hears().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    assert_eq!(site.refused(203).await, ["incomplete-request"; 203]);
    site.goes_on().await;
}

#[tokio::test]
async fn clients_that_break_off_leave_a_reason_and_no_event() {
    let site = Site::start().await;
    let body = screen();

    let mut in_the_body = Client::connect(&site).await;
    in_the_body.send(with_length(&body, "body")).await;
    in_the_body.send(&body[..body.len() / 2]).await;
    drop(in_the_body);
    site.refused(1).await;

    let mut in_a_chunk = Client::connect(&site).await;
    in_a_chunk
        .send(head(&body, "chunk", "transfer-encoding: chunked\r\n"))
        .await;
    in_a_chunk.send("ff\r\n{").await;
    drop(in_a_chunk);
    site.refused(2).await;

    let mut in_the_headers = Client::connect(&site).await;
    in_the_headers.send("POST /in/screens HTTP/1.1\r\nhost: ").await;
    drop(in_the_headers);
    site.refused(3).await;

    // Who says nothing has done nothing wrong.
    drop(Client::connect(&site).await);
    assert_eq!(site.refused(3).await, ["incomplete-request"; 3]);
    assert_eq!(site.ask(&["events", "list"]).await.len(), 0);
    site.goes_on().await;
}

#[tokio::test]
async fn what_is_no_request_or_too_much_of_one_is_turned_away() {
    let site = Site::start().await;
    let body = screen();
    let with = |header: &str| head(&body, "odd", &format!("{header}\r\n"));
    let chunked = with("transfer-encoding: chunked");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let streamed = chunked.clone() + &chunk.repeat(BODY_SIZE / 0x10000 + 1);
    let declared = with(&format!("content-length: {}", BODY_SIZE + 1));
    let endless = with("content-length: 18446744073709551615");
    let negative = with("content-length: -1");
    let twice = with("content-length: 7\r\ntransfer-encoding: chunked") + "0\r\n\r\n";
    let no_chunk = chunked + "zz\r\n";
    let headers = format!("POST /in/screens HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    let header = format!("POST /in/screens HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let tls = "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".to_owned();
    let question = "how are you?\r\n\r\n".to_owned();
    for (what, bytes, status, reason) in [
        ("too long, and says so", declared, "413", "body-too-large"),
        ("too long, piece by piece", streamed, "413", "body-too-large"),
        ("as long as a number can be", endless, "431", "malformed-request"),
        ("less than nothing", negative, "400", "malformed-request"),
        // The chunks count, nothing was signed for them, and the connection ends, so that nothing can hide behind them.
        ("two lengths", twice, "401", "wrong-signature"),
        ("a chunk of no length", no_chunk, "400", "malformed-request"),
        ("too many headers", headers, "431", "malformed-request"),
        ("a header without end", header, "431", "malformed-request"),
        ("the beginning of TLS", tls, "400", "malformed-request"),
        ("a question", question, "400", "malformed-request"),
    ] {
        let before = site.ask(&["refused", "list", "-n", "1000"]).await.len();
        let mut client = Client::connect(&site).await;
        client.send(bytes).await;
        let answer = client.hears().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{what}: {answer:?}"
        );
        let reasons = site.refused(before + 1).await;
        assert_eq!(reasons.last().unwrap(), reason, "{what}");
    }
    assert_eq!(site.ask(&["events", "list"]).await.len(), 0);
    site.goes_on().await;
}
