//! The real router counts with the plugin in C, wherever it lives.

use std::{path::PathBuf, time::Duration};

use jackfield_stage::{cargo, router::Router};
use serde_json::Value;

const ROUTES: &str = r#"
[[route]]
name = "exports"
when.provider = ["supernova"]

[[route.step]]
id = "count"
use = "count-in-c"
"#;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the last attempt at the newest delivery put out.
async fn counted(router: &Router) -> anyhow::Result<Value> {
    let deliveries = router.ask(&["deliveries", "list"]).await?;
    let newest = deliveries[0]["id"]
        .as_str()
        .expect("deliveries have ids")
        .to_owned();
    let shown = router.ask(&["deliveries", "show", &newest]).await?;
    let attempts = shown["attempts"].as_array().expect("there are attempts");
    Ok(attempts.last().expect("there was one")["output"].clone())
}

async fn counts_over_a_restart(isolation: &str) -> anyhow::Result<()> {
    let binary = cargo::build(&["jackfield"], "dev")?.binary("jackfield")?;
    let home = tempfile::tempdir()?;
    let mut router = Router::prepare(&binary, home.path(), &[PathBuf::from(plugin_c::LIBRARY)])?;
    router.set("TOKEN", "notarealtokenbutlongenough");
    let configuration = format!(
        "[[source]]\nname = \"designs\"\nprovider = \"supernova\"\npath_token = {{ env = \"TOKEN\" }}\n\n\
         [[instance]]\nname = \"count-in-c\"\nisolation = \"{isolation}\"\n"
    );
    router.configure(&configuration, ROUTES)?;
    router.start().await?;
    router.command(&["send", "designs"]).await?;
    router.settled(PATIENCE).await?;
    assert_eq!(
        counted(&router).await?,
        serde_json::json!({ "count": 1 }),
        "{isolation}"
    );

    router.stop().await?;
    router.start().await?;
    let events = router.ask(&["events", "list"]).await?;
    let event = events[0]["id"].as_str().expect("events have ids");
    router.command(&["replay", event]).await?;
    router.settled(PATIENCE).await?;
    assert_eq!(
        counted(&router).await?,
        serde_json::json!({ "count": 2 }),
        "{isolation}"
    );
    router.stop().await
}

#[tokio::test]
async fn it_counts_over_a_restart_in_a_process_of_its_own() -> anyhow::Result<()> {
    counts_over_a_restart("process").await
}

#[tokio::test]
async fn it_counts_over_a_restart_in_the_router() -> anyhow::Result<()> {
    counts_over_a_restart("none").await
}
