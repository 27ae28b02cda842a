//! A short torture: what `examples/torture` does in full, so that it is exercised with every change.

use std::time::Duration;

use jackfield_stage::{cargo, told::Told};
use jackfield_torture::{PACKAGES, Plan};

const SEED: &str = "JACKFIELD_TEST_TORTURE_SEED";

#[tokio::test]
async fn whatever_befalls_the_router_every_acknowledged_event_is_carried_out() {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let plan = Plan {
        seed,
        // About as long as each misfortune takes once, which comes about in any case.
        length: Duration::from_secs(20),
        senders: 8,
        pause: Duration::from_millis(1000),
        say: true,
    };
    let built = cargo::build(&PACKAGES, "dev").unwrap();
    let home = tempfile::Builder::new()
        .prefix("jackfield-torture-")
        .tempdir()
        .unwrap();
    let run = jackfield_torture::run(&built, plan, home.path()).await;
    let mut told = Told::default();
    if let Ok(run) = &run {
        run.tell(&mut told);
    }
    if !told.all_true() {
        println!("{SEED}={seed}; its files are kept in {}", home.keep().display());
    }
    run.unwrap();
    assert!(told.all_true());
}
