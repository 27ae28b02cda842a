//! A step leaves files for the next one, and the power fails at each sync: where it is said to be done, they are there.

use std::{fs, path::Path, process::Command};

use jackfield_stage::disk::{Change, Interposer, Platter, Recording, Survivors};

use super::*;
use crate::{clock::SystemClock, journal::SqliteHistory};

/// What the first step leaves, in its work directory.
const LEFT: [&str; 2] = ["a.json", "deep/er/b.json"];

#[tokio::test]
async fn what_a_step_left_is_on_disk_before_it_is_done() {
    let [home, root, disk] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let interposer = Interposer::new(home.path(), root.path()).unwrap().recording();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "dispatcher::tests::power::a_process_leaves_files",
            "--exact",
            "--ignored",
        ])
        .env("TMPDIR", root.path())
        .envs(interposer.environment())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let recording = Recording::read(interposer.trace().unwrap()).unwrap();
    let (mut platter, mut done) = (Platter::default(), 0);
    for (_, change) in recording.changes() {
        if matches!(change, Change::Synced(_)) && platter.unsynced() > 0 {
            done += usize::from(is_done(&platter, disk.path()).await);
        }
        platter.apply(change);
    }
    assert!(done > 0, "the power never failed between the two steps");
}

/// The power fails. Whether the first step is said to be done then, and its files are to be there.
async fn is_done(platter: &Platter, disk: &Path) -> bool {
    Platter::wipe(disk).unwrap();
    platter.power_cut(Survivors::None, disk).unwrap();
    let Some(data) = fs::read_dir(disk).unwrap().next() else {
        return false;
    };
    let data = data.unwrap().path();
    // Until there is a journal, nothing was said.
    let Ok(history) = SqliteHistory::open(&data, Arc::new(SystemClock)) else {
        return false;
    };
    let filter = DeliveryFilter {
        states: vec![State::Pending, State::Running, State::Waiting],
        limit: 1,
        ..DeliveryFilter::default()
    };
    let Some(owed) = history.deliveries(filter).await.unwrap().pop() else {
        return false;
    };
    let story = history.delivery(owed.id).await.unwrap().unwrap();
    let mut ends = story
        .attempts
        .iter()
        .map(|attempt| (attempt.step_id.as_str(), attempt.outcome));
    if !ends.any(|end| end == ("first", Some(Outcome::Done))) {
        return false;
    }
    for left in LEFT {
        let path = data.join("work").join(owed.id.to_string()).join(left);
        assert_eq!(
            fs::read_to_string(&path).ok().as_deref(),
            Some(left),
            "{}",
            path.display()
        );
    }
    true
}

#[tokio::test(start_paused = true)]
#[ignore = "the test of power cuts runs it as a process of its own"]
async fn a_process_leaves_files() {
    let a = Played::new(|call| {
        for left in LEFT {
            let path = call.workdir.join(left);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, left).unwrap();
        }
        done(&json!({ "value": 1 }))
    });
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, a), ("b", 1, b)]);
    // The name of the data directory itself is no part of this.
    fs::File::open(std::env::temp_dir()).unwrap().sync_all().unwrap();
    stage.accept("p").await;
    assert_eq!(states(&stage.settle().await), [State::Succeeded]);
}
