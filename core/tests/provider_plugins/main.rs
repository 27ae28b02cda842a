//! Providers that are plugins, in the real router: a signed webhook in, a delivery out, and nothing accepted for want of a verdict.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod acme;
mod villain;

use std::{path::PathBuf, time::Duration};

use hyper::HeaderMap;
use jackfield_stage::{cargo, http::Answered, router::Router};
use serde_json::Value;
use tempfile::TempDir;

/// A router with a source `in`, whose provider is the instance `plugin` of that plugin.
struct Site {
    router: Router,
    _home: TempDir,
}

const ROUTES: &str = r#"
[[route]]
name = "greet"
when.type = ["com.acme.order.paid"]

[[route.step]]
use = "hello"
with = { name = "{{ event.data.title }}" }
"#;

impl Site {
    /// One that runs.
    async fn start(plugin: &str, libraries: &[PathBuf], instance: &str) -> Self {
        let mut site = Self::prepare(plugin, libraries, instance);
        site.router.start().await.unwrap();
        site
    }

    fn prepare(plugin: &str, libraries: &[PathBuf], instance: &str) -> Self {
        let built = cargo::build(&["jackfield", "hello-plugin", "provider-plugin"], "dev").unwrap();
        let hello = built.library("hello-plugin").unwrap();
        let libraries: Vec<_> = libraries.iter().cloned().chain([hello]).collect();
        let home = tempfile::tempdir().unwrap();
        let mut router =
            Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &libraries).unwrap();
        router.set("NEW", "it is a secret");
        router.set("OLD", "it was a secret");
        let source = format!(
            "[[source]]\nname = \"in\"\nprovider = \"plugin:{plugin}\"\nsecrets = [{{ env = \"NEW\" }}, {{ env = \"OLD\" }}]\n\
             {instance}"
        );
        router.configure(&source, ROUTES).unwrap();
        Self { router, _home: home }
    }

    async fn post(&self, headers: &HeaderMap, body: &str) -> Answered {
        self.router
            .post("/in/in", headers, body.as_bytes())
            .await
            .unwrap()
    }

    /// Posts until the answer has that status.
    async fn post_until(&self, headers: &HeaderMap, body: &str, status: u16) -> Answered {
        loop {
            let answer = self.post(headers, body).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The events, the newest first.
    async fn events(&self) -> Vec<Value> {
        let events = self.router.ask(&["events", "list"]).await.unwrap();
        events.as_array().unwrap().clone()
    }

    async fn check(&self) -> String {
        let checked = self.router.attempt(&["check"]).await.unwrap();
        assert_eq!(checked.status.code(), Some(78));
        String::from_utf8_lossy(&checked.stderr).into_owned()
    }
}

#[track_caller]
fn unavailable(answer: &Answered) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
}
