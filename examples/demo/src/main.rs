//! The main job, end to end: webhooks of three providers come in, an archive is fetched, committed and announced.
//!
//! `cargo demo` builds the router and three plugins, sets the scene with stand-ins for the services that cannot be
//! reached, posts what the providers' documentation shows, and tells in plain words what happened. Each statement is
//! checked before it is printed; the exit code is 0 only if all of them are true. `cargo demo -- --keep` leaves
//! everything running.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use hyper::HeaderMap;
use jackfield_stage::{appflow, cargo, scene::PACKAGES, scene::Scene, supernova, told::Told, zeplin};

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::args().skip(1).any(|argument| argument == "--keep");
    match demo(keep).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(keep: bool) -> anyhow::Result<bool> {
    println!("Building the router and three plugins; the first time takes a few minutes…");
    let built = cargo::build(&PACKAGES, "dev")?;
    let mut scene = Scene::set(&built, include_str!("routes.toml")).await?;
    scene.router.start().await?;
    println!(
        "The router runs, with webhooks at http://{}",
        scene.router.ingress()
    );
    println!("and all that it keeps in {}\n", scene.directory().display());

    // Whoever is impatient leaves neither a process nor a directory behind.
    let played = tokio::select! {
        played = play(&scene) => Some(played?),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).context("waiting for Ctrl-C")?,
    };
    if keep && played.is_some() {
        wait(&scene, &built.binary(PACKAGES[0])?).await?;
    }
    scene.router.stop().await?;
    println!(
        "{}",
        match played {
            Some(true) => "All of it is true.",
            Some(false) => "NOT all of it is true.",
            None => "Interrupted: nothing is said of what had not happened yet.",
        }
    );
    Ok(played == Some(true))
}

/// The whole piece; whether all that it told was true.
async fn play(scene: &Scene) -> anyhow::Result<bool> {
    let mut told = Told::default();
    webhooks(scene, &mut told).await?;
    scene.router.settled(Duration::from_secs(60)).await?;
    outcomes(scene, &mut told).await?;
    journal(scene, &mut told).await?;
    Ok(told.all_true())
}

/// Posts what the three providers document, a duplicate and two forgeries.
async fn webhooks(scene: &Scene, told: &mut Told) -> anyhow::Result<()> {
    told.chapter("Webhooks come in");
    let export = scene.supernova.webhook("6", "Success");
    let first = scene.supernova_posts(&export).await?;
    let answer = first.json();
    let id = answer["id"].as_str().context("an accepted event has an id")?;
    let kept = scene.router.ask(&["events", "show", id]).await?;
    told.check(
        "Supernova says that an export is finished: 200, and the journal has the event",
        first.status == 200 && kept["event"]["id"] == id,
    );
    let again = scene.supernova_posts(&export).await?;
    let same = again.json()["id"] == id && again.json()["duplicate"] == true;
    told.check(
        "Supernova says it again: 200, known as a duplicate of the same event",
        again.status == 200 && same,
    );
    let version = zeplin::screen_version("Sign in");
    let screen = scene
        .zeplin_posts(&version, "490e4ba675f843d5a10e0baacdb8")
        .await?;
    told.check(
        "Zeplin says that a screen has a new version, signed: 200",
        screen.status == 200,
    );
    let forged = scene.forger_posts(&version).await?;
    told.check("Somebody signs the same with a guess: 401", forged.status == 401);
    let path = "/in/design-system/not-the-token";
    let body = serde_json::to_vec(&export)?;
    let stranger = scene.router.post(path, &HeaderMap::new(), &body).await?;
    told.check(
        "Somebody posts an export without the token of the address: 404",
        stranger.status == 404,
    );
    let build = scene
        .appflow
        .webhook("2216322b-35be-4af2-aaad-2b4e57354f88", "success");
    let build = scene.appflow_posts(&build).await?;
    told.check(
        "Appflow says that a build is finished: exactly 200",
        build.status == 200,
    );
    Ok(())
}

/// What reached the repository, the artifact's hosts and Slack.
async fn outcomes(scene: &Scene, told: &mut Told) -> anyhow::Result<()> {
    told.chapter("The export became one commit");
    let repository = &scene.repository;
    told.quote(&repository.git(&["show", "--stat", "--format=%h %s%n%an <%ae>%n%n%b", "main"])?);
    told.check(
        "main has the first commit and one more, not two",
        repository.commits("main")? == 2,
    );
    for (path, content) in supernova::TOKENS {
        let committed = repository
            .git(&["show", &format!("main:design/{path}")])
            .unwrap_or_default();
        told.check(
            &format!("design/{path} is what Supernova exported"),
            committed == content.trim(),
        );
    }
    told.check(
        "the archive was downloaded once",
        scene.supernova.downloads() == 1,
    );
    told.check(
        "the access token was not shown to the storage it redirects to",
        scene.supernova.leaked() == 0,
    );

    told.chapter("Slack heard of it");
    let posted = scene.slack.posted();
    for message in &posted {
        told.quote(&format!(
            "{}  {}",
            message.channel,
            message.body["text"].as_str().unwrap_or_default()
        ));
    }
    let heard = |channel: &str, text: &str| {
        let matching = |message: &&jackfield_stage::slack::Posted| {
            message.channel == channel
                && message.body["text"]
                    .as_str()
                    .is_some_and(|posted| posted.contains(text))
        };
        posted.iter().filter(matching).count() == 1
    };
    let sha = repository.git(&["rev-parse", "--short=7", "main"])?;
    told.check(
        "#design-system got one message, with the commit",
        heard("#design-system", &sha),
    );
    told.check(
        "#screens got one message, and the markup in a commit message is only text there",
        heard("#screens", "Softer corners &amp; a &lt;new&gt; header"),
    );
    let mut screens = posted.iter().filter(|message| message.channel == "#screens");
    told.check(
        "it shows the picture of the screen",
        screens.any(|message| message.body["blocks"][1]["image_url"] == zeplin::SCREEN_IMAGE),
    );
    let kept = format!("kept {} bytes", appflow::ARTIFACT_SIZE);
    told.check(
        "the incoming webhook got one message, with the size of the build",
        heard("webhook", &kept),
    );
    told.check("and that is all that Slack heard", posted.len() == 3);
    Ok(())
}

/// What the router itself says, through its own commands.
async fn journal(scene: &Scene, told: &mut Told) -> anyhow::Result<()> {
    told.chapter("The journal knows it all");
    println!("$ jackfield events list");
    told.quote(&scene.router.command(&["events", "list"]).await?);
    println!("$ jackfield deliveries list");
    told.quote(&scene.router.command(&["deliveries", "list"]).await?);
    let events = scene.router.ask(&["events", "list"]).await?;
    told.check(
        "three events: the duplicate and the forgeries made none",
        events.as_array().map(Vec::len) == Some(3),
    );
    let deliveries = scene.router.ask(&["deliveries", "list"]).await?;
    let deliveries = deliveries.as_array().context("a list of deliveries")?;
    let succeeded = deliveries.iter().all(|delivery| delivery["state"] == "succeeded");
    told.check(
        "three deliveries, and all of them succeeded",
        deliveries.len() == 3 && succeeded,
    );
    let dead = scene.router.ask(&["dead", "list"]).await?;
    told.check("no dead letters", dead.as_array().is_some_and(Vec::is_empty));
    Ok(())
}

/// Leaves the scene to the person who asked for it.
async fn wait(scene: &Scene, binary: &Path) -> anyhow::Result<()> {
    println!(
        "\nIt goes on running until Ctrl-C. Its files are in {}; try, in another terminal:\n",
        scene.directory().display()
    );
    println!("  alias jackfield={}", binary.display());
    println!(
        "  export JACKFIELD_CONFIG={}",
        scene.router.configuration().display()
    );
    for (name, value) in scene.router.environment() {
        println!("  export {name}={value}");
    }
    for (command, remark) in TO_TRY {
        println!("  {}", format!("{command:<42}{remark}").trim_end());
    }
    println!("  curl http://{}/metrics", scene.router.admin());
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")
}

/// What a person may try, and what is to be said of it.
const TO_TRY: [(&str, &str); 5] = [
    ("jackfield send screens", ""),
    ("jackfield events list", ""),
    ("jackfield deliveries list", ""),
    ("jackfield routes explain evt_…", "# an id from the first list"),
    (
        "jackfield replay dlv_… --keys renew",
        "# an id from the second: Slack hears it again",
    ),
];

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use jackfield::cli::Cli;
    use jackfield_event::{DeliveryId, EventId, Timestamp};

    use super::*;

    #[test]
    fn what_a_person_may_try_is_what_the_router_takes() {
        let time = Timestamp::from_secs(1_700_000_000).unwrap();
        let (event, delivery) = (EventId::new(time, 7), DeliveryId::new(time, 7));
        for (command, _) in TO_TRY {
            let command = command
                .replace("evt_…", &event.to_string())
                .replace("dlv_…", &delivery.to_string());
            let parsed = Cli::try_parse_from(command.split(' '));
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
        }
    }
}
