//! What plugins keep, what people replay, and the rules that are still needed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId};

use super::{Bench, PAYLOAD, arrival, asked, at, generation, owed};
use crate::{
    clock::SystemClock,
    delivery::{Outcome, State},
    journal::{Cause, GenerationRecord, JournalError, KeptReceipt, ReplayKeys},
    router::{GenerationId, Routed},
};

pub(crate) async fn values_are_an_instances_own_and_expire(bench: Bench<'_>) {
    let journal = &bench.journal;
    let put = async |instance, key, value: Option<&'static str>, ttl| {
        journal
            .kv_put(instance, key, value.map(Bytes::from), ttl)
            .await
            .unwrap();
    };
    put("slack", "channel", Some("C1"), None).await;
    put("slack", "thread", Some("T1"), Some(Duration::from_secs(10))).await;
    put("git", "channel", Some("other"), None).await;
    put("slack", "channel", Some("C2"), None).await;
    put("slack", "gone", Some("x"), None).await;
    put("slack", "gone", None, None).await;

    let get = async |bench: &Bench<'_>, instance, key| {
        let value = bench.journal.kv_get(instance, key).await.unwrap();
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    bench.set_clock(9);
    let bench = bench.reopen();
    for (instance, key, value) in [
        ("slack", "channel", Some("C2")),
        ("git", "channel", Some("other")),
        ("slack", "thread", Some("T1")),
        ("slack", "gone", None),
        ("git", "thread", None),
    ] {
        assert_eq!(
            get(&bench, instance, key).await.as_deref(),
            value,
            "{instance} {key}"
        );
    }
    bench.set_clock(10);
    assert_eq!(get(&bench, "slack", "thread").await, None);
}

pub(crate) async fn a_receipt_is_there_when_it_is_kept(bench: Bench<'_>) {
    let receipt = |done, body: &'static str| KeptReceipt {
        done,
        body: body.into(),
    };
    assert_eq!(bench.journal.receipt("dlv_1/post").await.unwrap(), None);
    bench
        .journal
        .keep_receipt("dlv_1/post", receipt(false, "{\"channel\":1}"))
        .await
        .unwrap();
    let bench = bench.reopen();
    assert_eq!(
        bench.journal.receipt("dlv_1/post").await.unwrap(),
        Some(receipt(false, "{\"channel\":1}"))
    );
    bench
        .journal
        .keep_receipt("dlv_1/post", receipt(true, "{\"ts\":2}"))
        .await
        .unwrap();
    assert_eq!(
        bench.journal.receipt("dlv_1/post").await.unwrap(),
        Some(receipt(true, "{\"ts\":2}"))
    );
    assert_eq!(bench.journal.receipt("dlv_1/other").await.unwrap(), None);
}

pub(crate) async fn a_replay_is_a_new_delivery_with_the_keys_that_are_asked_for(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", None)).await;
    let early = bench.journal.replay_delivery(first, ReplayKeys::Keep).await;
    assert!(matches!(early, Err(JournalError::Refused(_))), "{early:?}");
    bench.claim(0).await;
    bench
        .attempt(
            first,
            0,
            1,
            Outcome::Done,
            super::Next::Step {
                instance: "git".into(),
            },
        )
        .await;
    bench
        .attempt(
            first,
            1,
            1,
            Outcome::Done,
            super::Next::Settle {
                state: State::Succeeded,
                failure: None,
            },
        )
        .await;

    bench.set_clock(500);
    let kept = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    assert!(
        bench.claim_as("me", 500, 9, &["slack"]).await.is_empty(),
        "it begins with the first step's instance"
    );
    let claim = bench.claim(500).await.remove(0);
    assert_eq!(
        (claim.delivery, claim.key_root, claim.step, claim.attempts),
        (kept, first.to_string(), 0, 0)
    );
    assert_eq!(
        (claim.generation, claim.outputs.len(), claim.events.len()),
        (generation(), 0, 1)
    );
    let record = bench.journal.delivery(kept).await.unwrap().unwrap().record;
    assert_eq!((record.parent, record.created), (Some(first), at(500)));
    bench.finish(kept, State::Succeeded).await;

    let again = bench
        .journal
        .replay_delivery(kept, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.claim(500).await[0].key_root, first.to_string());
    bench.finish(again, State::Succeeded).await;
    let renewed = bench
        .journal
        .replay_delivery(first, ReplayKeys::Renew)
        .await
        .unwrap();
    assert_eq!(bench.claim(500).await[0].key_root, renewed.to_string());
    assert_eq!(bench.state(first).await, State::Succeeded);

    let unknown = bench
        .journal
        .replay_delivery(DeliveryId::new(at(0), 0), ReplayKeys::Keep)
        .await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))), "{unknown:?}");
}

pub(crate) async fn an_event_is_replayed_under_other_rules(bench: Bench<'_>) {
    let committed = bench.append(arrival(0, Some("key"), vec![])).await;
    let today = GenerationId("today".into());
    bench.journal.store_rules(&today, "today's rules").await.unwrap();
    let event = arrival(0, None, vec![]).routed.event().clone();
    let routed = Routed::for_test(
        event,
        PAYLOAD.into(),
        None,
        today.clone(),
        vec![owed("new", "slack", None)],
    );
    let replayed = bench
        .journal
        .replay_event(committed.event(), routed.clone(), asked())
        .await
        .unwrap();

    let claim = bench.claim(0).await.remove(0);
    assert_eq!(
        (vec![claim.delivery], claim.route.as_str(), claim.generation),
        (replayed, "new", today)
    );
    let event = jackfield_event::Event::from_json(&claim.events[0]).unwrap();
    assert_eq!(event.id, committed.event());
    assert_eq!(bench.journal.counts().await.unwrap().events, 1);
    let unknown = bench
        .journal
        .replay_event(EventId::new(at(0), 0), routed, asked())
        .await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))), "{unknown:?}");
}

pub(crate) async fn generations_are_needed_until_their_deliveries_settle(bench: Bench<'_>) {
    assert_eq!(bench.journal.unsettled_generations().await.unwrap(), []);
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let second = bench.owe(0, owed("a", "slack", Some("7"))).await;
    for delivery in [first, second] {
        assert_eq!(bench.claimed(0).await, [delivery]);
        assert_eq!(
            bench.journal.unsettled_generations().await.unwrap(),
            [generation()]
        );
        bench.finish(delivery, State::Succeeded).await;
    }
    assert_eq!(bench.journal.unsettled_generations().await.unwrap(), []);
}

pub(crate) async fn it_is_known_which_generation_was_in_force_when(bench: Bench<'_>) {
    let [first, second] = [generation(), GenerationId("0199".into())];
    bench
        .journal
        .store_rules(&second, "the second rules")
        .await
        .unwrap();
    let put = async |bench: &Bench<'_>, seconds, generation: &GenerationId, cause, displaced| {
        bench.set_clock(seconds);
        let put = bench.journal.put_in_force(generation, cause, displaced);
        let noted = put.await.unwrap();
        assert_eq!(bench.journal.generations(1).await.unwrap(), [noted]);
    };
    assert_eq!(bench.journal.generations(9).await.unwrap(), []);
    put(&bench, 1, &first, Cause::Start, None).await;
    put(&bench, 2, &second, Cause::Change, None).await;
    put(&bench, 3, &first, Cause::Rollback, Some(&second)).await;
    // A restart under the same rules is no change of them.
    let bench = bench.reopen();
    put(&bench, 4, &first, Cause::Start, Some(&second)).await;
    let record = |id: &GenerationId, since, until: Option<i64>, cause, displaced: Option<&GenerationId>| {
        GenerationRecord {
            id: id.clone(),
            since: at(since),
            until: until.map(at),
            cause,
            displaced: displaced.cloned(),
        }
    };
    let all = [
        record(&first, 3, None, Cause::Rollback, Some(&second)),
        record(&second, 2, Some(3), Cause::Change, None),
        record(&first, 1, Some(2), Cause::Start, None),
    ];
    assert_eq!(bench.journal.generations(9).await.unwrap(), all);
    assert_eq!(bench.journal.generations(1).await.unwrap(), all[..1]);
    // The rule files were made the same as what is in force: nothing is displaced any more.
    put(&bench, 5, &first, Cause::Change, None).await;
    assert_eq!(
        bench.journal.generations(1).await.unwrap(),
        [record(&first, 5, None, Cause::Change, None)]
    );

    let unknown = GenerationId("unknown".into());
    let refused = bench.journal.put_in_force(&unknown, Cause::Change, None).await;
    assert!(matches!(refused, Err(JournalError::NotFound(_))), "{refused:?}");
    for (prefix, expected) in [("012", Some(first)), ("0199", Some(second))] {
        assert_eq!(bench.journal.generation(prefix).await.ok(), expected);
    }
    for prefix in ["01", ""] {
        let refused = bench.journal.generation(prefix).await;
        assert!(matches!(refused, Err(JournalError::Refused(_))), "{refused:?}");
    }
    for prefix in ["0123abcd0", "0%"] {
        let refused = bench.journal.generation(prefix).await;
        assert!(matches!(refused, Err(JournalError::NotFound(_))), "{refused:?}");
    }
}

pub(crate) async fn what_is_told_of_a_generation_is_what_is_told_of_it_again(bench: Bench<'_>) {
    let Bench { place, journal, .. } = bench;
    drop(journal);
    // A clock that tells more than the journal keeps.
    let journal = place.open(Arc::new(SystemClock));
    let put = async || {
        journal
            .put_in_force(&generation(), Cause::Change, None)
            .await
            .unwrap()
    };
    let noted = put().await;
    assert_eq!(put().await, noted);
    assert_eq!(journal.generations(9).await.unwrap(), [noted]);
}
