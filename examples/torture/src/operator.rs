//! A person who looks after what is dead, by the commands that there are for it.

use anyhow::{Context as _, ensure};
use jackfield_stage::router::Router;
use serde_json::Value;

use crate::{master::Master, site::HELD};

/// What a person says of a dead delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    /// Those behind it are to go on.
    Skip,
    /// It is to be made again, and what did happen does not happen twice.
    Keep,
    /// It is to be made again, all of it.
    Renew,
    /// The step in doubt is done.
    Done,
    /// The step in doubt is not done.
    Repeat,
}

impl Word {
    pub(crate) const ALL: [Self; 5] = [Self::Skip, Self::Keep, Self::Renew, Self::Done, Self::Repeat];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Skip => "skipped",
            Self::Keep => "replayed with their keys",
            Self::Renew => "replayed with new keys",
            Self::Done => "resolved as done",
            Self::Repeat => "resolved as not done",
        }
    }

    fn command(self, delivery: &str) -> Vec<&str> {
        match self {
            Self::Skip => vec!["deliveries", "skip", delivery],
            Self::Keep => vec!["replay", delivery, "--keys", "keep"],
            Self::Renew => vec!["replay", delivery, "--keys", "renew"],
            Self::Done => vec!["deliveries", "resolve", delivery, "--done"],
            Self::Repeat => vec!["deliveries", "resolve", delivery, "--repeat"],
        }
    }
}

/// A word, and what was heard to it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) word: Word,
    pub(crate) delivery: String,
    /// When it was said, among all that happened at the master's.
    pub(crate) at: u64,
    pub(crate) heard: Heard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is so; and these deliveries have been made for it.
    Yes(Vec<String>),
    /// It is refused, with the reason.
    No(String),
    /// Nobody knows: the router died over it.
    Nothing,
}

/// A dead delivery.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) id: String,
    /// Whether nobody knows whether its last call acted.
    pub(crate) in_doubt: bool,
    /// Whether others wait behind it.
    pub(crate) holds: bool,
}

/// Says it.
pub(crate) async fn say(
    router: &Router,
    master: &Master,
    delivery: &str,
    word: Word,
) -> anyhow::Result<Said> {
    let at = master.moment();
    let output = router.attempt(&word.command(delivery)).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let heard = match output.status.success() {
        // Each is named at the beginning of its line.
        true if word != Word::Skip => {
            let text = text(&output.stdout);
            let made = text.lines().filter_map(|line| line.split_whitespace().next());
            Heard::Yes(made.map(str::to_owned).collect())
        }
        true => Heard::Yes(Vec::new()),
        false => match text(&output.stderr) {
            error if REFUSED.iter().any(|words| error.contains(words)) => Heard::No(error),
            _ => Heard::Nothing,
        },
    };
    Ok(Said {
        word,
        delivery: delivery.to_owned(),
        at,
        heard,
    })
}

/// The dead ones that hold their lines up.
pub(crate) async fn holding(router: &Router) -> anyhow::Result<Vec<Dead>> {
    let listed = router
        .ask(&[
            "deliveries",
            "list",
            "--route",
            HELD,
            "--state",
            "dead",
            "-n",
            ALL,
        ])
        .await?;
    let holding = entries(&listed)?
        .iter()
        .filter(|delivery| delivery["held"] == true);
    holding.map(dead).collect()
}

/// The latest dead ones of which nobody knows whether they acted, and that nobody has dealt with.
pub(crate) async fn doubtful(router: &Router) -> anyhow::Result<Vec<Dead>> {
    let listed = router
        .ask(&["dead", "list", "--reason", "plugin-ambiguous"])
        .await?;
    entries(&listed)?.iter().map(dead).collect()
}

fn entries(listed: &Value) -> anyhow::Result<&Vec<Value>> {
    listed.as_array().context("a list of deliveries")
}

fn dead(delivery: &Value) -> anyhow::Result<Dead> {
    let id = delivery["id"].as_str().unwrap_or_default().to_owned();
    ensure!(!id.is_empty(), "a delivery without an id: {delivery}");
    let reason = delivery["failure"]["reason"].as_str().unwrap_or_default();
    Ok(Dead {
        id,
        in_doubt: ["plugin-ambiguous", "quarantined"].contains(&reason),
        holds: delivery["held"] == true,
    })
}

/// What a command says that the router does not do.
const REFUSED: [&str; 2] = ["the router refused:", "were not replayed"];
/// More than there ever are.
const ALL: &str = "1000000";
