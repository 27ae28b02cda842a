//! A small load run: what `examples/load` does in full, so that it is exercised with every change.

use jackfield_load::{PACKAGES, Plan};
use jackfield_stage::{cargo, told::Told};

#[tokio::test]
async fn killed_under_load_every_acknowledged_event_is_delivered() {
    let built = cargo::build(&PACKAGES, "dev").unwrap();
    let plan = Plan {
        events: 2000,
        connections: 64,
        kills: 1,
    };
    let run = jackfield_load::run(&built, plan).await.unwrap();
    let mut told = Told::default();
    run.tell(&mut told);
    assert!(told.all_true());
}
