//! Many calls at the same time, and calls that keep their threads.

use jackfield::{delivery::Outcome, plugin::StepCall};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};

use crate::{built::Build, trial::Trial};

/// Serves so many, and answers nobody before all of them are there.
async fn serve(listener: TcpListener, count: usize) {
    let mut there = Vec::new();
    while there.len() < count {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        stream.read_line(&mut line).await.unwrap();
        there.push((stream, line));
    }
    for (mut stream, line) in there {
        stream
            .write_all(format!("heard {line}").as_bytes())
            .await
            .unwrap();
    }
}

/// Begins a call for each, and gives its output beside its number.
fn begin(trial: &Trial, calls: impl Iterator<Item = StepCall>) -> JoinSet<(usize, serde_json::Value)> {
    let mut begun = JoinSet::new();
    for (number, call) in calls.enumerate() {
        let caller = trial.instance.caller.clone();
        begun.spawn(async move {
            let report = caller.call(call).await;
            assert_eq!(report.outcome, Outcome::Done, "{report:?}");
            let output = report.output.unwrap_or_default();
            (number, serde_json::from_slice(&output).unwrap())
        });
    }
    begun
}

everywhere! {
    async fn three_hundred_calls_talk_to_a_server_at_the_same_time(trial: Trial) {
        let port = trial.bench.port().try_clone().unwrap();
        port.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(port).unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = (0..300).map(|number| StepCall {
            idempotency_key: format!("dlv/{number}"),
            ..trial.call_with(&json!({ "act": "connect", "port": port }))
        });
        let (answers, ()) = tokio::join!(begin(&trial, calls).join_all(), serve(listener, 300));
        for (number, answer) in answers {
            assert_eq!(answer, format!("heard dlv/{number}"));
        }
    }

    async fn three_hundred_calls_ask_the_host_at_the_same_time(trial: Trial) {
        let calls = (0..300).map(|number| StepCall {
            idempotency_key: format!("dlv/{number}"),
            ..trial.call(if number % 3 == 0 { "receipt" } else { "done" })
        });
        for (number, output) in begin(&trial, calls).join_all().await {
            match number % 3 {
                0 => assert_eq!(output, "absent"),
                _ => assert_eq!(output["key"], format!("dlv/{number}")),
            }
        }
        assert_eq!(trial.host.kept().receipts.len(), 100);
    }

    async fn calls_that_wait_for_one_another_all_end(trial: Trial) {
        let waiting = begin(&trial, (0..20).map(|_| trial.call("deaf")));
        trial.host.waits(20).await;
        for _ in 0..20 {
            assert_eq!(trial.act("wake").await.outcome, Outcome::Done);
        }
        assert_eq!(waiting.join_all().await.len(), 20);
    }

    async fn a_call_that_blocks_keeps_no_other_from_running(trial: Trial) {
        let (blocked, woken) = tokio::join!(trial.act("block"), trial.act("wake"));
        assert_eq!((blocked.outcome, woken.outcome), (Outcome::Done, Outcome::Done));
    }
}
