//! Rules and plugins that are put in the place of others, and what the router made of them.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use hyper::{HeaderMap, Method};
use jackfield::plugin::digest::Digest;
use serde_json::Value;
use tokio::fs;

use crate::{
    http,
    router::{Router, Signal},
};

/// Puts `text` in the place of the rules, and waits until it is in force or refused: then, with the reason. The router finds it
/// itself, or is told by a signal.
///
/// # Errors
///
/// Where the router does not answer, or neither comes about within a minute.
pub async fn rules(router: &Router, text: &str, signal: bool) -> anyhow::Result<Option<String>> {
    let before = standing(router).await?;
    replace(&router.home().join("routes.toml"), text.as_bytes()).await?;
    if signal {
        router.signal(Signal::HUP)?;
    }
    for _ in 0..1200 {
        let now = standing(router).await?;
        if now["in_force"] != before["in_force"] {
            return Ok(None);
        }
        if now["refused"] != before["refused"] {
            let reason = now["refused"]["faults"][0]["message"].as_str();
            return Ok(Some(reason.unwrap_or_default().to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("rules were neither taken up nor refused: {before:#}")
}

/// What the router says of its rules.
///
/// # Errors
///
/// Where it does not answer.
pub async fn standing(router: &Router) -> anyhow::Result<Value> {
    let headers = HeaderMap::new();
    let answer = http::send(router.admin(), Method::GET, "/v1/routes", &headers, "").await?;
    Ok(serde_json::from_str(&answer.body)?)
}

/// Puts `bytes` in the place of the plugin `library`, and waits until the router has taken it up or refused it: then, with the reason.
///
/// # Errors
///
/// Where the router does not answer, or neither comes about within a minute.
pub async fn library(router: &Router, library: &Path, bytes: &[u8]) -> anyhow::Result<Option<String>> {
    let name = library.file_name().context("a file has a name")?;
    let file = router.home().join("plugins").join(name);
    let digest = Digest::of(bytes).to_string();
    replace(&file, bytes).await?;
    for _ in 0..600 {
        let listed = router.ask(&["plugin", "list"]).await?;
        for plugin in listed["plugins"].as_array().context("a list of plugins")? {
            if plugin["digest"] == digest && plugin["state"] == "loaded" {
                return Ok(None);
            }
            if plugin["refused"]["digest"] == digest {
                let reason = plugin["refused"]["reason"].as_str().unwrap_or_default();
                return Ok(Some(reason.replace(&file.display().to_string(), "it")));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let listed: Value = router.ask(&["plugin", "list"]).await?;
    bail!("{digest} was neither taken up nor refused: {listed:#}")
}

/// Puts a file with these bytes in the place of another, at once, and on a thread that no request waits for.
///
/// # Errors
///
/// Where it cannot be written.
pub async fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, bytes).await?;
    Ok(fs::rename(&new, file).await?)
}
