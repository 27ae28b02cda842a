//! `deliveries cancel`, `deliveries resolve` and `deliveries skip`: a person decides what becomes of a delivery, or of those
//! behind it.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use jackfield_event::DeliveryId;
use serde_json::value::RawValue;

use super::{control::post, say, wait};
use crate::{
    admin::{self, Replayed, Verdict},
    journal::{Asker, Canceled},
};

/// Give deliveries up that are not settled: they are canceled, and their order keys are free.
///
/// What is pending or waits is canceled at once. The call of one that is running is told to stop, and the delivery is canceled when
/// that has ended, unless it was its last and did happen. No `on_failure` step is made for it.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The deliveries, as dlv_…
    #[arg(required = true, value_name = "DELIVERY")]
    ids: Vec<DeliveryId>,
    #[command(flatten)]
    note: Note,
}

/// Settle whether a step did happen, of which nobody could tell.
///
/// For a dead letter whose last call may have acted all the same: it ended as ambiguous, ran out of time, or its plugin died. Look
/// whether it did. A new delivery goes on from there and names this one.
#[derive(Debug, Args)]
#[group(id = "verdict", required = true, multiple = false, args = ["done", "repeat"])]
pub(super) struct Resolve {
    /// The delivery, as dlv_…
    id: DeliveryId,
    /// It did happen: go on with the step after it.
    #[arg(long)]
    done: bool,
    /// It did not happen: go on with that step, under a new key.
    #[arg(long)]
    repeat: bool,
    /// With --done: what the step would have put out, where later steps need it.
    #[arg(long, value_name = "JSON", requires = "done")]
    output: Option<String>,
    #[command(flatten)]
    note: Note,
}

/// Let those go that wait behind a dead delivery of a route with `on_stuck = "hold"`; it stays dead.
#[derive(Debug, Args)]
pub(super) struct Skip {
    /// The delivery, as dlv_…
    id: DeliveryId,
    #[command(flatten)]
    note: Note,
}

/// What is kept beside a wish.
#[derive(Debug, Args)]
pub(super) struct Note {
    /// Why, in a few words that are kept with it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Note {
    /// Whoever types this, by the name that the system has for them.
    pub(super) fn asker(self) -> Asker {
        let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| {
            let name = std::env::var(name).ok();
            name.filter(|name| !name.is_empty())
        });
        Asker {
            by: name,
            note: self.note,
        }
    }
}

impl Cancel {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let (asker, count) = (self.note.asker(), self.ids.len());
        let mut refused = 0;
        for id in self.ids {
            let cancel = admin::Cancel {
                id,
                asker: asker.clone(),
            };
            let answer: anyhow::Result<Canceled> = wait(post(data_dir, "/v1/cancel", &cancel))?;
            match answer {
                Ok(Canceled::Settled) => say(format!("{id}  is canceled"))?,
                Ok(Canceled::Asked) => say(format!(
                    "{id}  is running, and its call was told to stop; `jackfield deliveries show {id}` says how it ended"
                ))?,
                Err(error) if count == 1 => return Err(error),
                Err(error) => {
                    eprintln!("error: {error}");
                    refused += 1;
                }
            }
        }
        match refused {
            0 => Ok(()),
            refused => bail!("{refused} of {count} deliveries were not canceled"),
        }
    }
}

impl Resolve {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let id = self.id;
        let verdict = match self.done {
            true => Verdict::Done(self.output.map(|output| json(&output)).transpose()?),
            false => Verdict::Repeat,
        };
        let resolve = admin::Resolve {
            id,
            verdict,
            asker: self.note.asker(),
        };
        let replayed: Replayed = wait(post(data_dir, "/v1/resolve", &resolve))??;
        for delivery in replayed.deliveries {
            say(format!(
                "{delivery}  goes on for {id}; `jackfield deliveries show {delivery}` follows it"
            ))?;
        }
        Ok(())
    }
}

impl Skip {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let skip = admin::Skip {
            id: self.id,
            asker: self.note.asker(),
        };
        let id: DeliveryId = wait(post(data_dir, "/v1/skip", &skip))??;
        Ok(say(format!(
            "{id}  is skipped and stays dead; what waited behind it goes on"
        ))?)
    }
}

fn json(text: &str) -> anyhow::Result<Box<RawValue>> {
    serde_json::from_str(text).with_context(|| format!("--output is not JSON: {text}"))
}
