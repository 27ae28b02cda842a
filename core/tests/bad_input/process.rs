//! The process itself: a second one, the end of one, and a disk that takes no more.

use hyper::header::RETRY_AFTER;
use jackfield_stage::router::Signal;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    clients::{Client, head},
    site::{Site, eventually, screen},
};

#[tokio::test]
async fn a_second_router_on_the_same_data_is_refused_and_the_first_goes_on() {
    let site = Site::start().await;
    let second = site.attempt(&["run"]).await;
    assert_eq!(second.status.code(), Some(1));
    let said = site.plain(&second.stderr);
    let process = site.router.process().unwrap();
    assert!(
        said.contains(&format!("another router (process {process}, since ")),
        "{said}"
    );
    assert!(
        said.contains("uses the data directory …/data; stop it, or give this one a `data_dir` of its own"),
        "{said}"
    );
    site.goes_on().await;
}

/// A request is half sent when `signal` comes: it is answered, nothing else is taken, and the router ends well.
async fn drains(signal: Signal) {
    let mut site = Site::start().await;
    let body = screen();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut client = Client::connect(&site).await;
    let expects = format!("content-length: {}\r\nexpect: 100-continue\r\n", body.len());
    client.send(head(&body, "in flight", &expects)).await;
    // The router says so when it begins to read the body.
    client.until("100 Continue\r\n\r\n").await;
    client.send(first).await;
    site.router.signal(signal).unwrap();
    eventually(async || site.admin("/readyz").await.status == 503).await;
    client.send(rest).await;
    let answer = client.hears().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let status = site.router.ended().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", site.router.end_of_log());
    let events = site.ask(&["events", "list"]).await;
    assert_eq!(events.len(), 1);
    assert!(answer.contains(events[0]["id"].as_str().unwrap()), "{answer}");
    site.router.start().await.unwrap();
    site.goes_on().await;
}

#[tokio::test]
async fn sigterm_lets_what_is_in_flight_end() {
    drains(Signal::TERM).await;
}

#[tokio::test]
async fn ctrl_c_lets_what_is_in_flight_end() {
    drains(Signal::INT).await;
}

/// From now on files of the router grow no further than `size`, as on a full disk; its log is one of them.
fn limit_files(site: &Site, size: Option<u64>) {
    let process = Pid::from_raw(site.router.process().unwrap().try_into().unwrap());
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = size.or(maximum);
    let limit = Rlimit { current, maximum };
    prlimit(process, Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_disk_that_takes_no_more_acknowledges_nothing_and_is_survived() {
    let site = Site::start().await;
    let process = site.router.process();
    assert_eq!(site.zeplin_posts("before").await.status, 200);

    limit_files(&site, Some(0));
    for _ in 0..3 {
        let refused = site.zeplin_posts("meanwhile").await;
        assert_eq!(refused.status, 503);
        assert!(refused.headers.contains_key(RETRY_AFTER));
    }
    eventually(async || site.admin("/readyz").await.status == 503).await;
    assert_eq!(site.admin("/healthz").await.status, 200);

    limit_files(&site, None);
    eventually(async || site.admin("/readyz").await.status == 200).await;
    let accepted = site.zeplin_posts("meanwhile").await;
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    assert!(
        accepted.json()["duplicate"].is_null(),
        "it was not on disk before"
    );
    assert_eq!(site.router.process(), process);
    eventually(async || {
        site.ask(&["deliveries", "list", "--state", "succeeded"])
            .await
            .len()
            == 2
    })
    .await;
    assert_eq!(site.ask(&["events", "list"]).await.len(), 2);
    site.goes_on().await;
}
