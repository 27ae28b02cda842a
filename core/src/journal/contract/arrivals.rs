//! The way in.

use std::{future::Future, pin::pin, task::Context};

use jackfield_event::{DeliveryId, join_payload};

use super::{Bench, PAYLOAD, arrival, asked, at, generation, owed};
use crate::{
    delivery::{Line, State},
    journal::{AppendError, Arrival, DeliveryFilter, EventFilter, JournalError, Rejection, Stretch},
    reason::Reason,
    router::{GenerationId, Owed, Routed},
};

pub(crate) async fn an_event_is_found_whole_with_its_request_and_what_it_owes(bench: Bench<'_>) {
    let sent = arrival(
        3,
        Some("key"),
        vec![owed("a", "slack", None), owed("b", "git", None)],
    );
    let committed = bench.append(sent.clone()).await;
    assert!(!committed.is_duplicate());
    assert_eq!(committed.event(), sent.routed.event().id);

    let bench = bench.reopen();
    let story = bench.journal.event(committed.event()).await.unwrap().unwrap();
    let marks: Vec<_> = story
        .record
        .deliveries
        .iter()
        .map(|mark| (mark.id, mark.route.as_str(), mark.state))
        .collect();
    let ids = committed.deliveries();
    assert_eq!(
        marks,
        [(ids[0], "a", State::Pending), (ids[1], "b", State::Pending)]
    );
    assert_eq!(
        (
            story.record.received,
            story.record.source.as_str(),
            story.record.kind.as_str(),
            story.dedup.as_deref()
        ),
        (at(3), "screens", "io.zeplin.project.screen.created", Some("key"))
    );
    let event = jackfield_event::Event::from_json(story.event.get().as_bytes()).unwrap();
    assert_eq!(event.data.payload.unwrap().get().as_bytes(), PAYLOAD);

    let request = bench
        .journal
        .event_request(committed.event())
        .await
        .unwrap()
        .unwrap();
    let kept = sent
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    assert_eq!(
        (&request.body[..], request.headers),
        (PAYLOAD, kept.collect::<Vec<_>>())
    );
    let delivery = bench.journal.delivery(ids[1]).await.unwrap().unwrap();
    assert_eq!(
        (delivery.record.route.as_str(), delivery.record.events),
        ("b", vec![committed.event()])
    );
    assert_eq!(
        (delivery.record.instance.as_str(), delivery.record.generation),
        ("git", generation())
    );
    let counts = bench.journal.counts().await.unwrap();
    assert_eq!(
        (counts.events, counts.deliveries["pending"], counts.oldest_pending),
        (1, 2, Some(at(3)))
    );
}

pub(crate) async fn a_redelivery_gets_the_first_event_and_owes_nothing(bench: Bench<'_>) {
    let first = bench
        .append(arrival(0, Some("key"), vec![owed("a", "slack", None)]))
        .await;
    let again = bench
        .append(arrival(1, Some("key"), vec![owed("a", "slack", None)]))
        .await;
    assert_eq!(
        (again.event(), again.is_duplicate(), again.deliveries().len()),
        (first.event(), true, 0)
    );
    for other in [Some("another"), None, None] {
        assert!(
            !bench.append(arrival(1, other, vec![])).await.is_duplicate(),
            "{other:?}"
        );
    }

    let bench = bench.reopen();
    let later = bench.append(arrival(99, Some("key"), vec![])).await;
    assert_eq!((later.event(), later.is_duplicate()), (first.event(), true));
    let over = bench.append(arrival(100, Some("key"), vec![])).await;
    assert!(!over.is_duplicate());
    let new = bench.append(arrival(101, Some("key"), vec![])).await;
    assert_eq!((new.event(), new.is_duplicate()), (over.event(), true));

    let record = bench.journal.event(first.event()).await.unwrap().unwrap().record;
    assert_eq!(record.duplicates, 2);
    let counts = bench.journal.counts().await.unwrap();
    assert_eq!(
        (counts.events, counts.duplicates, counts.deliveries["pending"]),
        (5, 3, 1)
    );
}

pub(crate) async fn of_simultaneous_redeliveries_one_is_first(bench: Bench<'_>) {
    let sent: Vec<_> = (0..20)
        .map(|_| arrival(0, Some("key"), vec![owed("a", "slack", None)]))
        .collect();
    let mut appends: Vec<_> = sent
        .into_iter()
        .map(|sent| Box::pin(bench.journal.append(sent)))
        .collect();
    // All are in the queue before one is answered.
    for append in &mut appends {
        let _ = append
            .as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
    let mut first = Vec::new();
    let mut events = Vec::new();
    for append in appends {
        let committed = append.await.unwrap();
        events.push(committed.event());
        if !committed.is_duplicate() {
            first.push(committed.event());
        }
    }
    assert_eq!(first.len(), 1);
    assert!(events.iter().all(|event| *event == first[0]));
    assert_eq!(bench.claim(0).await.len(), 1);
}

pub(crate) async fn one_bad_row_fails_alone(bench: Bench<'_>) {
    let good = arrival(0, Some("good"), vec![owed("a", "slack", None)]);
    let same = good.clone();
    let event = same.routed.event().clone();
    let bad = Routed::for_test(
        event,
        PAYLOAD.into(),
        Some("bad".into()),
        generation(),
        same.routed.owed().to_vec(),
    );
    let bad = Arrival { routed: bad, ..same };
    let other = arrival(0, Some("other"), vec![owed("a", "slack", None)]);
    let again = arrival(0, Some("bad"), vec![]);

    let journal = &bench.journal;
    let (first, second, third) =
        tokio::join!(journal.append(good), journal.append(bad), journal.append(other));
    assert!(!first.unwrap().is_duplicate());
    assert!(
        matches!(second, Err(AppendError::Unavailable(JournalError::Store(_)))),
        "{second:?}"
    );
    assert!(!third.unwrap().is_duplicate());
    // Its key was not kept: what was refused may come again.
    assert!(!bench.append(again).await.is_duplicate());
    assert_eq!(bench.claim(0).await.len(), 2);
    assert_eq!(bench.journal.counts().await.unwrap().events, 3);
}

pub(crate) async fn rules_come_before_what_names_them(bench: Bench<'_>) {
    let unknown = GenerationId("ffff".into());
    let mut sent = arrival(0, None, vec![]);
    sent.routed = Routed::for_test(
        sent.routed.event().clone(),
        PAYLOAD.into(),
        None,
        unknown.clone(),
        vec![],
    );
    let refused = bench.journal.append(sent.clone()).await;
    assert!(
        matches!(refused, Err(AppendError::Unavailable(JournalError::NotFound(_)))),
        "{refused:?}"
    );
    assert_eq!(bench.journal.rules(&unknown).await.unwrap(), None);

    for _ in 0..2 {
        bench.journal.store_rules(&unknown, "other rules").await.unwrap();
    }
    bench.append(sent).await;
    assert_eq!(
        bench.journal.rules(&unknown).await.unwrap().as_deref(),
        Some("other rules")
    );
    assert_eq!(
        bench.journal.rules(&generation()).await.unwrap().as_deref(),
        Some("the rules")
    );
}

pub(crate) async fn a_client_that_hangs_up_takes_nothing_with_it(bench: Bench<'_>) {
    {
        let append = pin!(
            bench
                .journal
                .append(arrival(0, None, vec![owed("a", "slack", None)]))
        );
        let _ = append.poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
    bench.journal.sync().await.unwrap();
    assert_eq!(bench.claim(0).await.len(), 1);
}

pub(crate) async fn an_arrival_wakes_who_waits_for_deliveries(bench: Bench<'_>) {
    let mut changes = bench.journal.changes();
    changes.mark_unchanged();
    bench.append(arrival(0, None, vec![])).await;
    bench.journal.sync().await.unwrap();
    assert!(!changes.has_changed().unwrap());
    bench
        .append(arrival(0, None, vec![owed("a", "slack", None)]))
        .await;
    changes.changed().await.unwrap();
}

pub(crate) async fn lists_are_filtered_and_paged(bench: Bench<'_>) {
    let mut committed = Vec::new();
    for seconds in 0..6 {
        let route = if seconds % 2 == 0 { "even" } else { "odd" };
        committed.push(
            bench
                .append(arrival(seconds, None, vec![owed(route, "slack", None)]))
                .await,
        );
    }
    let events = |filter| async {
        bench
            .journal
            .events(filter)
            .await
            .unwrap()
            .iter()
            .map(|e| e.id)
            .collect::<Vec<_>>()
    };
    let event = |i: usize| committed[i].event();
    let page = EventFilter {
        limit: 2,
        ..EventFilter::default()
    };
    assert_eq!(events(page.clone()).await, [event(5), event(4)]);
    assert_eq!(
        events(EventFilter {
            before: Some(event(4)),
            ..page
        })
        .await,
        [event(3), event(2)]
    );
    let since = EventFilter {
        since: Some(at(4)),
        ..EventFilter::default()
    };
    assert_eq!(events(since).await, [event(5), event(4)]);
    for (source, kind, found) in [
        (None, Some("no.such.type"), 0),
        (Some("other"), None, 0),
        (Some("screens"), None, 6),
    ] {
        let filter = EventFilter {
            source: source.map(Into::into),
            kind: kind.map(Into::into),
            ..Default::default()
        };
        assert_eq!(events(filter).await.len(), found, "{source:?} {kind:?}");
    }

    let deliveries = |filter| async {
        bench
            .journal
            .deliveries(filter)
            .await
            .unwrap()
            .iter()
            .map(|d| d.id)
            .collect::<Vec<_>>()
    };
    let delivery = |i: usize| committed[i].deliveries()[0];
    bench.claim_as("me", 9, 1, &[]).await;
    bench.finish(delivery(0), State::Dead).await;
    let states = |states: &[State]| DeliveryFilter {
        states: states.to_vec(),
        ..Default::default()
    };
    assert_eq!(deliveries(states(&[State::Dead])).await, [delivery(0)]);
    assert_eq!(deliveries(states(&[State::Dead, State::Pending])).await.len(), 6);
    assert_eq!(deliveries(states(&[State::Running])).await, []);
    let filter = DeliveryFilter {
        route: Some("odd".into()),
        since: Some(at(2)),
        ..Default::default()
    };
    assert_eq!(deliveries(filter).await, [delivery(5), delivery(3)]);
    let filter = DeliveryFilter {
        event: Some(event(4)),
        ..Default::default()
    };
    assert_eq!(deliveries(filter).await, [delivery(4)]);
    let filter = DeliveryFilter {
        before: Some(delivery(2)),
        ..Default::default()
    };
    assert_eq!(deliveries(filter).await, [delivery(1), delivery(0)]);
}

pub(crate) async fn refused_requests_are_told_newest_first(bench: Bench<'_>) {
    for number in 0..3 {
        bench.journal.reject(Rejection {
            received: at(number),
            source: Some("screens".into()),
            reason: Reason::WrongSignature,
            detail: format!("number {number}"),
            remote: None,
        });
    }
    let details = async |bench: &Bench<'_>| {
        let recent = bench.journal.rejections(2).await.unwrap();
        recent
            .into_iter()
            .map(|record| record.rejection.detail)
            .collect::<Vec<_>>()
    };
    assert_eq!(details(&bench).await, ["number 2", "number 1"]);
    assert_eq!(details(&bench.reopen()).await, ["number 2", "number 1"]);
}

pub(crate) async fn all_events_are_gone_through_oldest_first_stretch_by_stretch(bench: Bench<'_>) {
    let mut sent = Vec::new();
    for seconds in [10, 20, 30, 40, 50] {
        bench.set_clock(seconds);
        sent.push(bench.append(arrival(seconds, None, vec![])).await.event());
    }
    let since = |seconds| Some(at(seconds));
    for (since, expected) in [(None, &sent[..]), (since(30), &sent[2..]), (since(60), &[])] {
        let (mut gone_through, mut after) = (Vec::new(), None);
        loop {
            let stretch = Stretch {
                since,
                after,
                limit: 2,
                bytes: usize::MAX,
            };
            let events = bench.journal.stretch(stretch).await.unwrap();
            let Some(last) = events.last() else { break };
            after = Some(last.place);
            gone_through.extend(events.iter().map(|event| event.id));
        }
        assert_eq!(gone_through, expected);
        let count = bench.journal.event_count(since).await.unwrap();
        assert_eq!(count, u64::try_from(expected.len()).unwrap());
    }
    let whole = bench.journal.event(sent[0]).await.unwrap().unwrap();
    let stretch = Stretch {
        since: None,
        after: None,
        limit: 1,
        bytes: usize::MAX,
    };
    let [first] = &bench.journal.stretch(stretch).await.unwrap()[..] else {
        panic!("one was asked for");
    };
    let joined = join_payload(first.envelope.as_bytes(), &first.payload).unwrap();
    assert_eq!(joined, whole.event.get().as_bytes());
}

pub(crate) async fn a_stretch_ends_with_the_event_by_which_it_has_enough_bytes(bench: Bench<'_>) {
    for seconds in 0..4 {
        bench.append(arrival(seconds, None, vec![])).await;
    }
    let of = async |bytes| {
        let stretch = Stretch {
            since: None,
            after: None,
            limit: 9,
            bytes,
        };
        bench.journal.stretch(stretch).await.unwrap()
    };
    let all = of(usize::MAX).await;
    let size = all[0].envelope.len() + all[0].payload.len();
    for (bytes, expected) in [(0, 1), (size, 1), (size + 1, 2), (2 * size, 2), (3 * size + 1, 4)] {
        assert_eq!(of(bytes).await, all[..expected], "{bytes} bytes are enough");
    }
}

pub(crate) async fn a_closed_journal_refuses_and_keeps(bench: Bench<'_>) {
    let committed = bench
        .append(arrival(0, None, vec![owed("a", "slack", None)]))
        .await;
    bench.journal.close().await.unwrap();
    let refused = bench.journal.append(arrival(0, None, vec![])).await;
    assert!(
        matches!(refused, Err(AppendError::Unavailable(JournalError::Closed))),
        "{refused:?}"
    );
    assert!(matches!(bench.journal.sync().await, Err(JournalError::Closed)));
    assert!(matches!(bench.journal.counts().await, Err(JournalError::Closed)));
    assert!(matches!(bench.journal.close().await, Err(JournalError::Closed)));
    let bench = bench.reopen();
    assert_eq!(bench.claimed(0).await, committed.deliveries());
}

pub(crate) async fn counts_follow_every_state(bench: Bench<'_>) {
    for _ in 0..4 {
        bench.owe(0, owed("a", "slack", None)).await;
    }
    let claimed = bench.claimed(0).await;
    bench.finish(claimed[0], State::Succeeded).await;
    bench.finish(claimed[1], State::Dead).await;
    bench
        .journal
        .release(
            claimed[2],
            "me",
            Some((at(50), Reason::InstanceMissing, "none".into())),
        )
        .await
        .unwrap();
    let counts = async |bench: &Bench<'_>| {
        let counts = bench.journal.counts().await.unwrap().deliveries;
        [
            "pending",
            "running",
            "waiting",
            "succeeded",
            "dead",
            "superseded",
            "canceled",
        ]
        .map(|state| counts[state])
    };
    assert_eq!(counts(&bench).await, [0, 1, 1, 1, 1, 0, 0]);
    assert_eq!(counts(&bench.reopen()).await, [1, 0, 1, 1, 1, 0, 0]);
}

pub(crate) async fn what_is_settled_is_counted_whoever_settled_it(bench: Bench<'_>) {
    let newest = Owed {
        line: Line {
            supersede: true,
            ..Line::default()
        },
        ..owed("a", "slack", Some("key"))
    };
    let settled = |bench: &Bench<'_>| {
        let settled = bench.journal.settled();
        assert_eq!(settled.len(), 4, "{settled:?}");
        ["succeeded", "dead", "superseded", "canceled"].map(|state| settled[state])
    };
    assert_eq!(settled(&bench), [0, 0, 0, 0]);
    for _ in 0..3 {
        bench.owe(0, newest.clone()).await;
    }
    assert_eq!(settled(&bench), [0, 0, 2, 0], "by an arrival");
    let stillborn = Owed {
        order: Err("event.data.project is undefined".into()),
        ..owed("b", "slack", None)
    };
    bench.owe(0, stillborn).await;
    assert_eq!(settled(&bench), [0, 1, 2, 0], "at its beginning");
    let other = bench.owe(0, owed("c", "slack", None)).await;
    let claimed = bench.claimed(0).await;
    let [done, given_up] = claimed[..] else {
        panic!("the newest of the line and {other} are due, not {claimed:?}");
    };
    bench.finish(done, State::Succeeded).await;
    bench.finish(given_up, State::Dead).await;
    assert_eq!(settled(&bench), [1, 2, 2, 0], "by a call");
    let unwanted = bench.owe(0, owed("c", "slack", None)).await;
    bench.journal.cancel(unwanted, asked().asker).await.unwrap();
    assert_eq!(settled(&bench), [1, 2, 2, 1], "by a person");
    assert_eq!(settled(&bench.reopen()), [0, 0, 0, 0], "since it was opened");
}

pub(crate) async fn where_deliveries_stand_is_told_of_those_that_there_are(bench: Bench<'_>) {
    let done = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.finish(done, State::Succeeded).await;
    let pending = bench.owe(0, owed("a", "slack", None)).await;
    let not_asked = bench.owe(0, owed("a", "slack", None)).await;
    let missing = DeliveryId::new(at(0), 0);
    let states = bench.journal.states(vec![missing, pending, done]).await.unwrap();
    assert_eq!(
        states,
        [(done, State::Succeeded), (pending, State::Pending)].into(),
        "{not_asked} was not asked for"
    );
}
