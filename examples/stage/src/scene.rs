//! The whole scene: all stand-ins, a repository, and a router that is configured to use them.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use jackfield::{
    clock::{Clock as _, SystemClock},
    provider::{self, Options},
    secret::Secret,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    appflow::Appflow,
    cargo::Built,
    git::Repository,
    http::Answered,
    router::Router,
    slack::{self, Slack},
    supernova::{self, Supernova},
};

/// Everything that the main job needs, in a directory that is gone when the scene is.
#[derive(Debug)]
pub struct Scene {
    /// Where Slack's messages arrive.
    pub slack: Slack,
    /// Where design tokens come from.
    pub supernova: Supernova,
    /// Where builds come from.
    pub appflow: Appflow,
    /// Where commits go.
    pub repository: Repository,
    /// The router.
    pub router: Router,
    directory: TempDir,
}

/// The packages whose files a scene needs.
pub const PACKAGES: [&str; 4] = ["jackfield", "slack-notify", "artifact-fetch", "git-commit"];

/// The secret of the source `screens`.
pub const ZEPLIN_SECRET: &str = "stage-zeplin-secret";
/// The token in the paths of the sources `design-system` and `builds`.
pub const PATH_TOKEN: &str = "stage-path-token-0123456789abcdef";

impl Scene {
    /// Sets the scene with `routes`; the router is not started yet.
    ///
    /// In `routes`, `{repository}` stands for the repository's path.
    ///
    /// # Errors
    ///
    /// Where a port, a file or `git` is not to be had.
    pub async fn set(built: &Built, routes: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("jackfield-").tempdir()?;
        let (slack, supernova, appflow) =
            tokio::try_join!(Slack::start(), Supernova::start(), Appflow::start())?;
        let repository = Repository::create(&directory.path().join("design-tokens.git"))?;
        repository.seed("README.md", "# Design tokens\n")?;
        let libraries = PACKAGES[1..]
            .iter()
            .map(|package| built.library(package))
            .collect::<Result<Vec<_>, _>>()?;
        let router = Router::prepare(
            &built.binary(PACKAGES[0])?,
            &directory.path().join("router"),
            &libraries,
        )?;
        let mut scene = Self {
            slack,
            supernova,
            appflow,
            repository,
            router,
            directory,
        };
        scene.configure(routes)?;
        Ok(scene)
    }

    fn configure(&mut self, routes: &str) -> anyhow::Result<()> {
        for (name, value) in [
            ("ZEPLIN_SECRET", ZEPLIN_SECRET),
            ("PATH_TOKEN", PATH_TOKEN),
            ("SUPERNOVA_PAT", supernova::PAT),
            ("SLACK_TOKEN", slack::BOT_TOKEN),
            ("SLACK_WEBHOOK", &self.slack.webhook()),
        ] {
            self.router.set(name, value);
        }
        let [api, storage] = self.supernova.addresses();
        let repository = self
            .repository
            .path()
            .to_str()
            .context("the temporary directory's name is not UTF-8")?;
        let words = HashMap::from([
            ("{slack_api}", self.slack.api()),
            ("{slack}", self.slack.address()),
            ("{supernova_origin}", self.supernova.origin()),
            ("{supernova_api}", api),
            ("{supernova_storage}", storage),
            ("{appflow}", self.appflow.address()),
            ("{repository}", repository.to_owned()),
        ]);
        let fill = |text: &str| {
            words
                .iter()
                .fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
        };
        self.router.configure(&fill(CONFIGURATION), &fill(routes))
    }

    /// Posts as Supernova does.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer.
    pub async fn supernova_posts(&self, body: &Value) -> anyhow::Result<Answered> {
        self.post("design-system", &unsigned("supernova"), body, "").await
    }

    /// Posts as Appflow does.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer.
    pub async fn appflow_posts(&self, body: &Value) -> anyhow::Result<Answered> {
        self.post("builds", &unsigned("appflow"), body, "").await
    }

    /// Posts as Zeplin does, under its delivery id `delivery`.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer.
    pub async fn zeplin_posts(&self, body: &Value, delivery: &str) -> anyhow::Result<Answered> {
        self.post("screens", &zeplin(ZEPLIN_SECRET), body, delivery).await
    }

    /// Posts as somebody does who does not know Zeplin's secret.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer.
    pub async fn forger_posts(&self, body: &Value) -> anyhow::Result<Answered> {
        self.post("screens", &zeplin("a guess"), body, "forged").await
    }

    async fn post(
        &self,
        source: &str,
        options: &Options,
        body: &Value,
        delivery: &str,
    ) -> anyhow::Result<Answered> {
        let body = serde_json::to_vec(body)?;
        let signed = provider::sign(options, &body, SystemClock.now(), delivery)?;
        self.router
            .post(&signed.path(source), &signed.headers, &body)
            .await
    }

    /// Where all of it lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A provider that knows the token of the address.
fn unsigned(provider: &str) -> Options {
    Options {
        provider: provider.into(),
        path_token: Some(Secret::new(PATH_TOKEN)),
        ..Options::default()
    }
}

/// Zeplin, or somebody who says so, with `secret`.
fn zeplin(secret: &str) -> Options {
    Options {
        provider: "zeplin".into(),
        secrets: vec![Secret::new(secret)],
        ..Options::default()
    }
}

/// Three sources, and an instance of each plugin; `slack` speaks as a bot, `slack-webhook` through a webhook.
const CONFIGURATION: &str = r#"
[[source]]
name = "design-system"
provider = "supernova"
path_token = { env = "PATH_TOKEN" }

[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]

[[source]]
name = "builds"
provider = "appflow"
path_token = { env = "PATH_TOKEN" }

[[instance]]
name = "artifact-fetch"
plugin = "artifact-fetch"
grant.network = ["{supernova_api}", "{supernova_storage}", "{appflow}"]
[instance.config]
allow_private = ["{supernova_api}", "{supernova_storage}", "{appflow}"]
credentials.supernova = { origins = ["{supernova_origin}"], bearer = { env = "SUPERNOVA_PAT" } }

[[instance]]
name = "git-commit"
plugin = "git-commit"
grant.programs = ["git"]
grant.write = ["cache", "{repository}"]
[instance.config]
repositories = ["{repository}"]
protocols = ["file"]
committer = { name = "Jackfield", email = "jackfield@example.com" }
cache = "cache"

[[instance]]
name = "slack"
plugin = "slack-notify"
concurrency = 1
grant.network = ["{slack}"]
[instance.config]
api = "{slack_api}"
bot_token = { env = "SLACK_TOKEN" }

[[instance]]
name = "slack-webhook"
plugin = "slack-notify"
grant.network = ["{slack}"]
[instance.config]
webhook_url = { env = "SLACK_WEBHOOK" }
"#;
