//! A small load run: what `examples/load` does in full, so that it is exercised with every change.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what is not there is a failure; the exemption for tests leaves out functions beside them"
)]

use std::num::NonZeroU32;

use jackfield_load::{PACKAGES, Plan};
use jackfield_stage::{cargo, told::Told};

#[tokio::test]
async fn killed_under_load_every_acknowledged_event_is_delivered() {
    let plan = Plan {
        events: 2000,
        connections: 64,
        kills: 1,
        replacements: 0,
        reloads: 0,
        rules: 0,
        retention: false,
        rate: None,
    };
    passes(plan).await;
}

#[tokio::test]
async fn with_its_plugin_replaced_under_load_every_acknowledged_event_is_delivered() {
    let plan = Plan {
        events: 5000,
        connections: 16,
        kills: 0,
        replacements: 9,
        reloads: 0,
        rules: 0,
        retention: false,
        rate: NonZeroU32::new(500),
    };
    passes(plan).await;
}

#[tokio::test]
async fn with_its_rules_replaced_under_load_every_event_is_delivered_by_one_set_of_them() {
    let plan = Plan {
        events: 4000,
        connections: 16,
        kills: 0,
        replacements: 0,
        reloads: 7,
        rules: 200,
        retention: false,
        rate: NonZeroU32::new(500),
    };
    passes(plan).await;
}

#[tokio::test]
async fn with_much_of_it_removed_under_load_every_acknowledged_event_is_delivered() {
    let plan = Plan {
        events: 6000,
        connections: 16,
        kills: 0,
        replacements: 0,
        reloads: 0,
        rules: 0,
        retention: true,
        rate: None,
    };
    passes(plan).await;
}

async fn passes(plan: Plan) {
    let built = cargo::build(&PACKAGES, "dev").unwrap();
    let run = jackfield_load::run(&built, plan).await.unwrap();
    let mut told = Told::default();
    run.tell(&mut told);
    assert!(told.all_true());
}
