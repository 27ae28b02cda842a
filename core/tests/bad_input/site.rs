//! The real router on a directory of its own, with two sources and a plugin that does nothing.

use std::{fs, path::PathBuf, process::Output, sync::OnceLock, time::Duration};

use hyper::{HeaderMap, Method};
use jackfield::{
    clock::{Clock as _, SystemClock},
    provider::{self, Options},
    secret::Secret,
};
use jackfield_event::Timestamp;
use jackfield_stage::{
    cargo::{self, Built},
    http::{self, Answered},
    router::Router,
    zeplin,
};
use serde_json::Value;
use tempfile::TempDir;

/// The secret of the source `screens`.
pub(crate) const SECRET: &str = "screens-secret-0123456789";
/// The token in the path of the source `design-system`.
pub(crate) const TOKEN: &str = "path-token-0123456789";
/// The longest body that `screens` takes.
pub(crate) const BODY_SIZE: usize = 1 << 20;

const SOURCES: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
body_size = "1MiB"

[[source]]
name = "design-system"
provider = "supernova"
path_token = { env = "PATH_TOKEN" }
"#;
/// A route that is always carried out.
pub(crate) const ROUTES: &str = r#"
[[route]]
name = "count"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "counting-plugin"
"#;

pub(crate) struct Site {
    pub(crate) router: Router,
    home: TempDir,
}

impl Site {
    /// Laid out, and not started.
    pub(crate) fn prepare() -> Self {
        let home = tempfile::Builder::new().prefix("jackfield-").tempdir().unwrap();
        let binary = built().binary("jackfield").unwrap();
        let mut router = Router::prepare(&binary, home.path(), &[plugin()]).unwrap();
        router.set("ZEPLIN_SECRET", SECRET);
        router.set("PATH_TOKEN", TOKEN);
        router.configure(SOURCES, ROUTES).unwrap();
        Self { router, home }
    }

    /// Running.
    pub(crate) async fn start() -> Self {
        let mut site = Self::prepare();
        site.router.start().await.unwrap();
        site
    }

    /// Adds sections to the configuration.
    pub(crate) fn configure(&self, more: &str) {
        self.edit(|text| format!("{text}\n{more}"));
    }

    /// Adds keys to `[listen]`.
    pub(crate) fn listen(&self, keys: &str) {
        self.edit(|text| text.replacen("[listen]\n", &format!("[listen]\n{keys}\n"), 1));
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.router.configuration();
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Writes the rule file.
    pub(crate) fn rules(&self, text: &str) {
        fs::write(self.router.home().join("routes.toml"), text).unwrap();
    }

    /// Posts to `path` with what the provider's headers are.
    pub(crate) async fn post(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answered {
        self.router.post(path, headers, body).await.unwrap()
    }

    /// Posts what Zeplin would, as its delivery `delivery`.
    pub(crate) async fn zeplin_posts(&self, delivery: &str) -> Answered {
        let body = screen();
        let headers = signed(&body, SECRET, SystemClock.now(), delivery);
        self.post("/in/screens", &headers, &body).await
    }

    /// The admin side's answer.
    pub(crate) async fn admin(&self, path: &str) -> Answered {
        http::send(self.router.admin(), Method::GET, path, &HeaderMap::new(), "")
            .await
            .unwrap()
    }

    /// The reasons of requests that were refused, the oldest first, once there are `count`.
    ///
    /// They are noted beside the answer, not before it.
    pub(crate) async fn refused(&self, count: usize) -> Vec<String> {
        let mut reasons = Vec::new();
        eventually(async || {
            reasons = self.ask(&["refused", "list", "-n", "1000"]).await;
            reasons.len() >= count
        })
        .await;
        let reason = |record: &Value| record["reason"].as_str().unwrap().to_owned();
        reasons.iter().rev().map(reason).collect()
    }

    /// What a command of the CLI lists.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Vec<Value> {
        let listed = self.router.ask(arguments).await.unwrap();
        listed.as_array().unwrap().clone()
    }

    /// A command of the CLI, well or not.
    pub(crate) async fn attempt(&self, arguments: &[&str]) -> Output {
        self.router.attempt(arguments).await.unwrap()
    }

    /// `text` without the path of this site's directory, which is another in every run.
    pub(crate) fn plain(&self, text: &[u8]) -> String {
        let home = self.home.path().display().to_string();
        String::from_utf8_lossy(text).replace(&home, "…")
    }

    /// A good request is still accepted and delivered; nothing has panicked; and the router stops as it should.
    pub(crate) async fn goes_on(mut self) {
        let answer = self.zeplin_posts("good").await;
        assert_eq!(answer.status, 200, "{}", self.router.end_of_log());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        eventually(async || {
            let deliveries = self.ask(&["deliveries", "list", "--event", &id]).await;
            let counted = deliveries.iter().find(|delivery| delivery["route"] == "count");
            counted.is_some_and(|delivery| delivery["state"] == "succeeded")
        })
        .await;
        self.router.stop().await.unwrap();
        let log = self.router.log();
        assert!(!log.contains("panicked"), "{log}");
        for secret in [SECRET, TOKEN] {
            assert!(!log.contains(secret), "a secret is in the log");
        }
    }
}

/// A new version of a screen, as Zeplin posts it.
pub(crate) fn screen() -> Vec<u8> {
    zeplin::screen_version("Sign in").to_string().into_bytes()
}

/// What Zeplin sends beside `body`, signed with `secret` at `at`.
pub(crate) fn signed(body: &[u8], secret: &str, at: Timestamp, delivery: &str) -> HeaderMap {
    let options = Options {
        provider: "zeplin".into(),
        secrets: vec![Secret::new(secret)],
        ..Options::default()
    };
    provider::sign(&options, body, at, delivery).unwrap().headers
}

/// Asks again and again whether something holds, for half a minute.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asking).await;
    assert!(asked.is_ok(), "it did not come to hold");
}

/// The counting plugin's library.
pub(crate) fn plugin() -> PathBuf {
    built().library("counting-plugin").unwrap()
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| cargo::build(&["jackfield", "counting-plugin"], "dev").unwrap())
}
