//! The events that are matched: as large as GitHub's, small ones, and one of a single long list.

use std::path::Path;

use anyhow::Context as _;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Events of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// About 10 KB: a payload of GitHub's in our envelope.
    Large,
    /// About 0.6 KB: a lot of land, as other matchers are measured with.
    Small,
}

/// How many events there are of each kind.
const EVENTS: usize = 320;

/// How many repositories or lots events are about; the first of them in most.
pub(crate) const THINGS: u32 = 200_000;

impl Size {
    pub(crate) const ALL: [Self; 2] = [Self::Large, Self::Small];

    /// Events in JSON, always the same ones.
    pub(crate) fn events(self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut rng = Rng::with_seed(7);
        let payloads = match self {
            Self::Large => recorded()?,
            Self::Small => Vec::new(),
        };
        let events = (0..EVENTS).map(|number| match self {
            Self::Large => large(&mut rng, payloads.get(number % payloads.len().max(1))),
            Self::Small => small(&mut rng),
        });
        Ok(events.map(|event| event.to_string().into_bytes()).collect())
    }
}

/// GitHub's own examples, where `JACKFIELD_WEBHOOKS_EXAMPLES` names an `index.json` of `@octokit/webhooks-examples`.
fn recorded() -> anyhow::Result<Vec<(String, Value)>> {
    let Some(path) = std::env::var_os("JACKFIELD_WEBHOOKS_EXAMPLES") else {
        return Ok(Vec::new());
    };
    let path = Path::new(&path);
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let index: Vec<Value> = serde_json::from_slice(&text)?;
    let payloads = index.iter().flat_map(|kind| {
        let name = kind["name"].as_str().unwrap_or_default();
        let examples = kind["examples"].as_array().into_iter().flatten();
        examples.map(move |example| (name.to_owned(), example.clone()))
    });
    Ok(payloads.collect())
}

/// An event of one of [`TYPES`], or with a recorded payload.
fn large(rng: &mut Rng, recorded: Option<&(String, Value)>) -> Value {
    let thing = thing(rng);
    let (kind, mut payload) = match recorded {
        Some((kind, payload)) => (kind.clone(), payload.clone()),
        None => (TYPES[rng.usize(..TYPES.len())].to_owned(), issue(rng, thing)),
    };
    if let Some(repository) = payload.get_mut("repository").and_then(Value::as_object_mut) {
        repository.insert("full_name".to_owned(), repository_name(thing).into());
        repository.insert("open_issues_count".to_owned(), rng.u32(..1000).into());
    }
    if let Some(sender) = payload.get_mut("sender").and_then(Value::as_object_mut) {
        sender.insert("login".to_owned(), login(rng).into());
    }
    json!({
        "specversion": "1.0", "id": format!("evt_{:026}", rng.u64(..)), "source": "/in/github",
        "type": format!("com.github.{kind}"), "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json", "dataschema": "urn:jackfield:event:1",
        "provider": "github", "sourcename": "github", "verified": "signature",
        "data": {
            "action": ACTIONS[rng.usize(..ACTIONS.len())],
            "title": format!("Something happened to {}", repository_name(thing)),
            "project": { "kind": "repository", "id": thing.to_string(), "name": repository_name(thing) },
            "payload": payload,
        }
    })
}

/// A payload like those about issues: two users, an issue, and a repository with all its addresses.
fn issue(rng: &mut Rng, thing: u32) -> Value {
    let at = format!("https://api.github.com/repos/{}", repository_name(thing));
    let number = rng.u32(1..9999);
    let addresses = ["labels", "comments", "events", "timeline"];
    let mut issue = urls(&format!("{at}/issues/{number}"), &addresses);
    let labels = (0..3).map(|label| {
        json!({
            "id": rng.u32(..), "node_id": "MDU6TGFiZWwyMDgwNDU5NDY=", "url": format!("{at}/labels/kind-{label}"),
            "name": format!("kind-{label}"), "color": "d73a4a", "default": label == 0, "description": null
        })
    });
    let labels: Vec<_> = labels.collect();
    let body = "It does not work since the last release, and nothing in the log says why. \"Expected\" was a page.\n";
    let rest = json!({
        "id": rng.u32(..), "node_id": "MDU6SXNzdWU0NDQ1MDAwNDE=", "number": number, "title": "It does not work",
        "user": user(rng), "labels": labels, "state": "open", "locked": false, "assignee": null, "assignees": [],
        "milestone": null, "created_at": "2026-01-01T12:00:00Z", "closed_at": null, "author_association": "MEMBER",
        "reactions": { "total_count": 3, "+1": 2, "-1": 0, "laugh": 0, "hooray": 0, "confused": 1 },
        "body": body.repeat(4)
    });
    issue.extend(rest.as_object().cloned().unwrap_or_default());
    json!({
        "action": "opened", "issue": issue, "repository": repository(rng, thing, &at),
        "organization": { "login": "example", "id": 38302899, "url": "https://api.github.com/orgs/example", "description": "" },
        "sender": user(rng),
    })
}

fn repository(rng: &mut Rng, thing: u32, at: &str) -> Value {
    let addresses = [
        "forks",
        "keys{/key_id}",
        "collaborators{/collaborator}",
        "teams",
        "hooks",
        "issues/events{/number}",
        "assignees{/user}",
        "branches{/branch}",
        "tags",
        "git/blobs{/sha}",
        "git/tags{/sha}",
        "git/refs{/sha}",
        "git/trees{/sha}",
        "statuses/{sha}",
        "languages",
        "stargazers",
        "contributors",
        "subscribers",
        "subscription",
        "commits{/sha}",
        "git/commits{/sha}",
        "comments{/number}",
        "issues/comments{/number}",
        "contents/{+path}",
        "compare/{base}...{head}",
        "merges",
        "{archive_format}{/ref}",
        "downloads",
        "issues{/number}",
        "pulls{/number}",
        "milestones{/number}",
        "notifications{?since,all,participating}",
        "labels{/name}",
        "releases{/id}",
        "deployments",
    ];
    let mut repository = urls(at, &addresses);
    let rest = json!({
        "id": 186853002 + thing, "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=", "name": format!("repo-{thing}"),
        "full_name": repository_name(thing), "private": false, "owner": user(rng), "description": null, "fork": false,
        "created_at": "2019-05-15T15:19:25Z", "updated_at": "2019-05-15T15:19:27Z", "size": 0, "homepage": null,
        "stargazers_count": 0, "watchers_count": 0, "language": "Rust", "has_issues": true, "has_wiki": true,
        "forks_count": 0, "archived": false, "disabled": false, "open_issues_count": rng.u32(..1000), "license": null,
        "default_branch": "main", "visibility": "public", "topics": ["webhooks", "router"]
    });
    repository.extend(rest.as_object().cloned().unwrap_or_default());
    repository.into()
}

fn user(rng: &mut Rng) -> Value {
    let login = login(rng);
    let at = format!("https://api.github.com/users/{login}");
    let addresses = [
        "followers",
        "following{/other_user}",
        "gists{/gist_id}",
        "starred{/owner}{/repo}",
        "subscriptions",
        "orgs",
        "repos",
        "events{/privacy}",
        "received_events",
    ];
    let mut user = urls(&at, &addresses);
    let rest = json!({
        "login": login, "id": rng.u32(..), "node_id": "MDQ6VXNlcjIxMDMxMDY3", "gravatar_id": "", "type": "User",
        "avatar_url": "https://avatars1.githubusercontent.com/u/21031067?v=4", "site_admin": false
    });
    user.extend(rest.as_object().cloned().unwrap_or_default());
    user.into()
}

/// Addresses below another one, and that one itself.
fn urls(at: &str, below: &[&str]) -> Map<String, Value> {
    let name = |path: &str| {
        let words = path.split('{').next().unwrap_or_default().trim_end_matches('/');
        format!("{}_url", words.replace('/', "_"))
    };
    let urls = below
        .iter()
        .map(|path| (name(path), format!("{at}/{path}").into()));
    let own = [
        ("url".to_owned(), Value::from(at)),
        (
            "html_url".to_owned(),
            at.replace("api.github.com/repos", "github.com").into(),
        ),
    ];
    urls.chain(own).collect()
}

fn small(rng: &mut Rng) -> Value {
    let thing = thing(rng);
    let coordinates =
        (0..5).map(|_| json!({ "x": -122.4 - rng.f64() / 10.0, "y": 37.7 + rng.f64() / 10.0, "z": 0.0 }));
    let coordinates: Vec<_> = coordinates.collect();
    json!({
        "type": "Feature",
        "properties": {
            "MAPBLKLOT": lot(thing), "BLKLOT": lot(thing), "BLOCK_NUM": format!("{:04}", thing / 100),
            "LOT_NUM": format!("{:03}", thing % 100), "FROM_ST": rng.u32(..3000).to_string(), "TO_ST": rng.u32(..3000).to_string(),
            "STREET": street(rng), "ST_TYPE": "ST", "ODD_EVEN": "O", "AREA": rng.u32(..1000)
        },
        "geometry": { "type": "Polygon", "coordinates": coordinates }
    })
}

/// One element after another in one list, in about so many bytes.
pub(crate) fn long(bytes: usize) -> Vec<u8> {
    let mut event = br#"{"a":["#.to_vec();
    let mut number = 0_u32;
    while event.len() < bytes {
        let comma = if number > 0 { "," } else { "" };
        event.extend(format!(r#"{comma}{{"x":{number},"y":"{number}"}}"#).bytes());
        number += 1;
    }
    event.extend(b"]}");
    event
}

/// One of [`THINGS`]: one as low as ten is as likely as one between a thousand and ten thousand.
fn thing(rng: &mut Rng) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 1 and `THINGS`"
    )]
    let thing = f64::from(THINGS).powf(rng.f64()) as u32;
    thing
}

pub(crate) fn repository_name(thing: u32) -> String {
    format!("org-{}/repo-{thing}", thing % 89)
}

pub(crate) fn lot(thing: u32) -> String {
    format!("{thing:07}A")
}

fn login(rng: &mut Rng) -> String {
    format!("user-{}", rng.u32(..5000))
}

fn street(rng: &mut Rng) -> String {
    format!(
        "{} {}",
        ["MARKET", "MISSION", "FOLSOM", "HARRISON"][rng.usize(..4)],
        rng.u32(1..500)
    )
}

const ACTIONS: [&str; 4] = ["opened", "closed", "edited", "labeled"];

/// Types of events, in the order in which rules take them.
pub(crate) const TYPES: [&str; 40] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "delete",
    "deploy_key",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "installation",
    "issue_comment",
    "issues",
    "label",
    "member",
    "membership",
    "meta",
    "milestone",
    "organization",
    "page_build",
    "ping",
    "project",
    "project_card",
    "public",
    "pull_request",
    "pull_request_review",
    "push",
    "release",
    "repository",
    "secret_scanning_alert",
    "star",
    "status",
    "team",
    "watch",
    "workflow_job",
    "workflow_run",
];
