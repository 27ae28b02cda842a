//! The ingress over real sockets, with real providers and a real journal: every answer that it can give.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod site;

use jackfield::{journal::History, reason::Reason};
use site::{Answer, Client, Protocol, Site, post};
use tokio::task::JoinSet;

#[tokio::test]
async fn every_refusal_has_its_status_and_is_recorded_with_its_reason() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        refuses(protocol).await;
    }
}

/// Whatever is sent, this is answered, and this is recorded.
async fn refuses(protocol: Protocol) {
    let site = Site::start().await;
    let (good, stale, forged) = (
        site.zeplin("d1"),
        site.stale_zeplin("d2"),
        site.forged_zeplin("d3"),
    );
    let unsigned = post("/in/screens", &[("content-type", "application/json")], b"{}");
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let builds = format!("/in/builds/{}", site::TOKEN);
    let cases: Vec<(&str, Vec<u8>, u16, Option<Reason>)> = vec![
        ("a signed event", good, 200, None),
        ("a wrong signature", forged, 401, Some(Reason::WrongSignature)),
        ("a stale timestamp", stale, 401, Some(Reason::StaleTimestamp)),
        ("no signature", unsigned, 401, Some(Reason::MissingHeader)),
        (
            "an unknown path",
            post("/", &[], b"{}"),
            404,
            Some(Reason::UnknownPath),
        ),
        (
            "an unknown source",
            post("/in/nobody", &[], b"{}"),
            404,
            Some(Reason::UnknownSource),
        ),
        (
            "a wrong token",
            post("/in/builds/guess", &[], b"{}"),
            404,
            Some(Reason::WrongToken),
        ),
        (
            "no token",
            post("/in/builds", &[], b"{}"),
            404,
            Some(Reason::WrongToken),
        ),
        (
            "another method",
            b"GET /in/screens HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            405,
            Some(Reason::WrongMethod),
        ),
        (
            "a packed body",
            post(&builds, &[("content-encoding", "gzip")], b"{}"),
            415,
            Some(Reason::UnsupportedEncoding),
        ),
        (
            "what is not JSON",
            post(&builds, &[], b"{\"a\":"),
            400,
            Some(Reason::NotJson),
        ),
        (
            "what is not UTF-8",
            post(&builds, &[], b"{\"a\":\"\xff\"}"),
            400,
            Some(Reason::NotJson),
        ),
        ("no body", post(&builds, &[], b""), 400, Some(Reason::NotJson)),
        (
            "100,000 brackets",
            post(&builds, &[], &deep),
            400,
            Some(Reason::TooDeep),
        ),
        (
            "too long a body",
            post(&builds, &[], &vec![b' '; site::BODY_LIMIT + 1]),
            413,
            Some(Reason::BodyTooLarge),
        ),
    ];
    for (what, request, status, reason) in &cases {
        let what = format!("{what}, {protocol:?}");
        let answer = site.exchange(protocol, request).await;
        assert_eq!(answer.status, *status, "{what}: {answer:?}");
        assert_eq!(
            answer.header("allow"),
            (*status == 405).then_some("POST"),
            "{what}"
        );
        if let Some(reason) = reason {
            let recorded = &site.journal.rejections(1).await.unwrap()[0].rejection;
            assert_eq!(recorded.reason, *reason, "{what}: {recorded:?}");
            assert!(!format!("{recorded:?}").contains(site::TOKEN), "{what}");
            assert!(
                recorded.remote.is_some_and(|remote| remote.is_loopback()),
                "{what}"
            );
        }
    }
    assert_eq!(site.journal.counts().await.unwrap().events, 1);
}

#[tokio::test]
async fn an_accepted_event_is_in_the_journal_and_its_redelivery_is_told() {
    let site = Site::start().await;
    let mut client = site.connect().await;
    let first = client.exchange(&site.zeplin("d1")).await;
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(first.body, format!("{{\"id\":\"{id}\"}}\n"));

    let again = client.exchange(&site.zeplin("d1")).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body, format!("{{\"id\":\"{id}\",\"duplicate\":true}}\n"));

    let story = site.journal.event(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(story.record.kind, "io.zeplin.project.screen.version.created");
    assert_eq!(story.record.deliveries.len(), 1);
    assert_eq!(story.record.duplicates, 1);
    let request = site
        .journal
        .event_request(story.record.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(request.body, site::ZEPLIN_BODY.as_bytes());
    let kept = |name: &str| {
        request
            .headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(kept("zeplin-delivery-id"), Some("d1"));
    assert_eq!(kept("zeplin-signature"), Some("(redacted)"));
}

/// Whoever guesses sources or tokens learns nothing, by any length of body and any header.
#[tokio::test]
async fn a_wrong_token_and_an_unknown_source_cannot_be_told_apart() {
    let site = Site::start().await;
    let long = vec![b' '; site::BODY_LIMIT + 1];
    let packed = [("content-encoding", "br")];
    for (headers, body) in [(&[][..], &b"{}"[..]), (&packed, b"{}"), (&[], &long)] {
        let mut answers = Vec::new();
        for path in [
            "/in/builds/guess",
            "/in/builds",
            "/in/nobody/guess",
            "/in/nobody",
            "/nowhere",
        ] {
            let answer = site.connect().await.exchange(&post(path, headers, body)).await;
            answers.push((answer.status, answer.headers_but_date(), answer.body));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].0, 404);
    }
}

#[tokio::test]
async fn too_long_a_body_is_refused_before_it_is_sent_and_while_it_is() {
    let site = Site::start().await;
    let path = format!("/in/builds/{}", site::TOKEN);
    // Announced, and not one byte of it sent.
    let announced = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        site::BODY_LIMIT + 1
    );
    assert_eq!(
        site.connect().await.exchange(announced.as_bytes()).await.status,
        413
    );
    // Not announced, and sent on and on: the answer must get through all that is still under way.
    let mut streamed =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..64 {
        streamed.extend_from_slice(format!("{:x}\r\n", site::BODY_LIMIT / 4).as_bytes());
        streamed.extend_from_slice(&vec![b' '; site::BODY_LIMIT / 4]);
        streamed.extend_from_slice(b"\r\n");
    }
    assert_eq!(site.connect().await.exchange(&streamed).await.status, 413);
}

#[tokio::test]
async fn slow_clients_are_sent_away_while_others_are_served() {
    let site = Site::impatient().await;
    let path = format!("/in/builds/{}", site::TOKEN);
    let half = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{{\"a\"");
    let mut slow_body = site.connect().await;
    let mut slow_headers = site.connect().await;
    let mut silent = site.connect().await;
    slow_body.send(half.as_bytes()).await;
    slow_headers.send(b"POST /in/builds HTTP/1.1\r\nhost: ").await;
    assert_eq!(
        site.connect().await.exchange(&site.zeplin("d1")).await.status,
        200
    );

    assert_eq!(slow_body.answer().await.status, 408);
    assert_eq!(
        site.journal.rejections(1).await.unwrap()[0].rejection.reason,
        Reason::IncompleteRequest
    );
    assert_eq!(slow_headers.rest().await, b"");
    assert_eq!(silent.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_breaks_off_in_its_body_is_recorded() {
    let site = Site::start().await;
    let mut client = site.connect().await;
    let path = format!("/in/builds/{}", site::TOKEN);
    client
        .send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{{\"a\"").as_bytes())
        .await;
    drop(client);
    let recorded = site.next_rejection().await;
    assert_eq!(recorded.reason, Reason::IncompleteRequest);
    assert_eq!(recorded.source.as_deref(), Some("builds"));
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_answered_and_one_that_has_gone_is_no_refusal() {
    let site = Site::start().await;
    for delivery in ["d1", "d2", "d3"] {
        let mut client = site.connect().await;
        client.send(&site.zeplin(delivery)).await;
        client.sends_no_more().await;
        assert_eq!(client.answer().await.status, 200);
        assert!(client.rest().await.is_empty());
    }
    for delivery in ["d4", "d5", "d6"] {
        site.connect().await.send(&site.zeplin(delivery)).await;
    }
    site.until_counted("events_accepted", 6).await;
    assert!(site.rejections().await.is_empty());
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_their_order() {
    let site = Site::start().await;
    let mut client = site.connect().await;
    let refused = post("/in/nobody", &[], b"{}");
    client
        .send(&[site.zeplin("d1"), refused, site.zeplin("d1")].concat())
        .await;
    let answers = [
        client.answer().await,
        client.answer().await,
        client.answer().await,
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 404, 200]);
    assert_eq!(answers[2].json()["duplicate"], true);
}

#[tokio::test]
async fn too_many_headers_and_what_is_not_http_are_turned_away() {
    let site = Site::with_small_headers().await;
    let long = "a".repeat(10 << 10);
    let oversized = post("/in/screens", &[("x-long", &long)], b"{}");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answer = site.exchange(protocol, &oversized).await;
        assert_eq!(answer.status, 431, "{protocol:?}");
    }
    let numerous = post("/in/screens", &[("x-one", "1"); 101], b"{}");
    for (protocol, status) in [(Protocol::Http1, 431), (Protocol::Http2, 400)] {
        let answer = site.exchange(protocol, &numerous).await;
        assert_eq!(answer.status, status, "{protocol:?}");
        assert_eq!(
            site.next_rejection().await.reason,
            Reason::MalformedRequest,
            "{protocol:?}"
        );
    }
    assert_eq!(
        site.connect()
            .await
            .exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
    let site = Site::start().await;
    let client = site.multiplex().await;
    for delivery in ["d1", "d2", "d1"] {
        assert_eq!(client.exchange(&site.zeplin(delivery)).await.status, 200);
    }
    assert_eq!(site.journal.counts().await.unwrap().events, 2);
}

#[tokio::test]
async fn a_stream_whose_body_does_not_come_is_answered_408() {
    let site = Site::impatient_for_bodies().await;
    let path = format!("/in/builds/{}", site::TOKEN);
    let half = format!("POST {path} HTTP/1.1\r\ncontent-length: 10\r\n\r\n{{\"a\"");
    let client = site.multiplex().await;
    let (answer, _rest) = client.begin(half.as_bytes()).await;
    assert_eq!(answer.await.unwrap().status, 408);
    assert_eq!(
        site.journal.rejections(1).await.unwrap()[0].rejection.reason,
        Reason::IncompleteRequest
    );
    // The others of its connection are none the worse.
    assert_eq!(client.exchange(&site.zeplin("d1")).await.status, 200);
}

#[tokio::test]
async fn an_http2_connection_that_asks_for_nothing_is_closed() {
    let site = Site::impatient().await;
    let mut idle = site.multiplex().await;
    // Says which protocol it speaks, and that it has no settings, and nothing more.
    let mut silent = site.connect().await;
    silent
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    // They end, which is all that is asked: a client that is late with a pong sees a connection that breaks off.
    let _ = idle.ended().await;
    assert_ne!(
        silent.rest().await,
        b"",
        "it was not answered in its own protocol"
    );
}

/// A client keeps to what it was told; this one does.
#[tokio::test]
async fn so_many_requests_are_in_flight_on_one_http2_connection_and_no_more() {
    let site = Site::with_one_stream().await;
    let client = site.multiplex().await;
    // Its answer comes after the server's settings.
    assert_eq!(client.exchange(&site.zeplin("d1")).await.status, 200);
    let request = site.zeplin("d2");
    let (most, end) = request.split_at(request.len() - 5);
    let (first, mut rest) = client.begin(most).await;
    let (second, whole) = client.begin(&site.zeplin("d3")).await;
    drop(whole);
    let mut answers = JoinSet::new();
    answers.spawn(first);
    site.until_received(2).await;
    answers.spawn(second);
    let mut other = site.connect().await;
    for delivery in 0..20 {
        let request = site.zeplin(&format!("o{delivery}"));
        assert_eq!(other.exchange(&request).await.status, 200);
    }
    assert_eq!(
        site.journal.counts().await.unwrap().events,
        21,
        "the second is served beside the first"
    );
    rest.send_data(end.to_vec().into()).await.unwrap();
    drop(rest);
    for answer in answers.join_all().await {
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test]
async fn beyond_the_limit_a_connection_waits_for_another_to_end() {
    let site = Site::with_one_connection().await;
    let (mut first, mut second) = (site.connect().await, site.connect().await);
    assert_eq!(first.exchange(&site.zeplin("d1")).await.status, 200);
    second.send(&site.zeplin("d2")).await;
    for delivery in 3..20 {
        assert_eq!(
            first.exchange(&site.zeplin(&format!("d{delivery}"))).await.status,
            200
        );
    }
    assert_eq!(
        site.journal.counts().await.unwrap().events,
        18,
        "the second is served"
    );
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_stored_is_answered_503_with_a_time() {
    let full = Site::with_a_full_journal().await;
    let comes_back = |answer: &Answer| {
        let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        (answer.status, (5..=15).contains(&seconds))
    };
    let answer = full.connect().await.exchange(&full.zeplin("d1")).await;
    assert_eq!(comes_back(&answer), (503, true));
    assert_eq!(
        full.journal.rejections(1).await.unwrap()[0].rejection.reason,
        Reason::Overloaded
    );

    let closed = Site::start().await;
    closed.close_the_journal().await;
    let answer = closed.connect().await.exchange(&closed.zeplin("d1")).await;
    assert_eq!(comes_back(&answer), (503, true));
}

#[tokio::test]
async fn who_keeps_the_end_of_a_body_back_holds_nobody_up() {
    let site = Site::with_little_memory().await;
    let path = format!("/in/builds/{}", site::TOKEN);
    let mut holder = site.connect().await;
    let held = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        site::LITTLE
    );
    holder.send(held.as_bytes()).await;
    holder.send(&vec![b' '; site::LITTLE - 1]).await;
    // There is no room for both, whichever comes first.
    tokio::select! {
        refused = holder.answer() => assert_eq!(refused.status, 503),
        () = site.is_answered(&path) => unreachable!("it goes on for ever"),
    }
    // What it held is free for others: all that there is, but for the last post, which may be at work yet.
    let all = post(&path, &[], &vec![b' '; site::LITTLE - 2]);
    assert_eq!(site.connect().await.exchange(&all).await.status, 400);
    // More than there is, nobody can send.
    let more = post(&path, &[], &vec![b' '; site::LITTLE + 1]);
    assert_eq!(site.connect().await.exchange(&more).await.status, 503);
}

#[tokio::test]
async fn streams_in_flight_are_answered_after_the_stop_and_nothing_else() {
    let mut site = Site::start().await;
    let (mut busy, mut idle) = (site.multiplex().await, site.multiplex().await);
    assert_eq!(idle.exchange(&site.zeplin("d1")).await.status, 200);
    let request = site.zeplin("d2");
    let (most, end) = request.split_at(request.len() - 5);
    let (answer, mut rest) = busy.begin(most).await;
    let mut answers = JoinSet::new();
    answers.spawn(answer);
    site.until_received(2).await;
    site.stop();
    // Both clients would go on: it is the server that ends the one at once, and the other when its stream has ended.
    idle.ended().await.unwrap();
    rest.send_data(end.to_vec().into()).await.unwrap();
    drop(rest);
    assert_eq!(answers.join_all().await.pop().unwrap().unwrap().status, 200);
    busy.ended().await.unwrap();
    site.ended().await.unwrap();
    assert!(Client::connect(site.address).await.is_err());
}

#[tokio::test]
async fn what_is_in_flight_is_answered_after_the_stop_and_nothing_else() {
    let mut site = Site::start().await;
    let (mut busy, mut idle) = (site.connect().await, site.connect().await);
    assert_eq!(idle.exchange(&site.zeplin("d1")).await.status, 200);
    let request = site.zeplin("d2");
    let (first, rest) = request.split_at(request.len() - 5);
    busy.send(first).await;
    site.until_received(2).await;
    site.stop();
    assert_eq!(idle.rest().await, b"");
    busy.send(rest).await;
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    site.ended().await.unwrap();
    assert!(Client::connect(site.address).await.is_err());
}

#[tokio::test]
async fn half_a_head_is_heard_out_after_the_stop_on_a_kept_connection_as_on_a_new_one() {
    let mut site = Site::with_one_acceptor().await;
    let (mut fresh, mut kept) = (site.connect().await, site.connect().await);
    assert_eq!(kept.exchange(&site.zeplin("d1")).await.status, 200);
    let (of_fresh, of_kept) = (site.zeplin("d2"), site.zeplin("d3"));
    fresh.send(&of_fresh[..40]).await;
    kept.send(&of_kept[..40]).await;
    // One thread reads what comes in the order in which it came.
    assert_eq!(
        site.connect().await.exchange(&site.zeplin("d4")).await.status,
        200
    );
    site.stop();
    for (client, rest) in [(&mut fresh, &of_fresh[40..]), (&mut kept, &of_kept[40..])] {
        let answer = client.exchange(rest).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    site.ended().await.unwrap();
}
