//! Deliveries, chosen by what they have in common.

use std::fmt::Write as _;

use anyhow::bail;
use clap::Args;
use jackfield_event::{DeliveryId, Timestamp};

use crate::{
    cli::lists::{StateWord, moment},
    clock::{Clock as _, SystemClock},
    delivery::State,
    journal::{DeliveryFilter, History, Order},
    reason::Reason,
};

/// Which deliveries are replayed, where none are named.
#[derive(Debug, Args)]
#[command(next_help_heading = "Choosing deliveries")]
pub(super) struct Choice {
    /// Those in this state, in place of the dead; may be given several times.
    #[arg(long, value_enum)]
    state: Vec<StateWord>,
    /// Those that were given up for this reason, as in plugin-fatal.
    #[arg(long)]
    reason: Option<Reason>,
    /// Those of an event of this source.
    #[arg(long)]
    source: Option<String>,
    /// Those of an event of this type, as in io.supernova.job.success.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Those owed since then: a time ago, as in 2h, or a time such as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Those owed before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// How many at most, the oldest first.
    #[arg(short = 'n', long, default_value_t = 1000)]
    limit: u64,
    /// Also those that have been replayed before.
    #[arg(long)]
    pub(super) again: bool,
}

/// What was chosen, and how many there are of it.
pub(super) struct Chosen {
    filter: DeliveryFilter,
    /// How many are to be replayed.
    pub(super) count: u64,
    /// How many there are.
    found: u64,
    /// What they are.
    pub(super) words: String,
}

impl Choice {
    /// Whether anything of it was asked for.
    pub(super) fn is_made(&self) -> bool {
        !self.state.is_empty()
            || self.reason.is_some()
            || self.source.is_some()
            || self.kind.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.again
    }

    /// Counts what is there of it.
    pub(super) async fn count(&self, history: &dyn History, routes: &[String]) -> anyhow::Result<Chosen> {
        if !self.is_made() && routes.is_empty() {
            bail!(
                "name a delivery (dlv_…) or an event (evt_…), or choose dead letters: by `--route`, `--reason`, `--source`, `--type`, \
                 `--since`; all of them are `--state dead`"
            );
        }
        if routes.len() > 1 {
            bail!("deliveries are chosen by one `--route` at a time");
        }
        let states = match &self.state[..] {
            [] => vec![State::Dead],
            words => words.iter().copied().map(State::from).collect(),
        };
        if let Some(state) = states.iter().find(|state| !state.is_settled()) {
            bail!(
                "what is {} is under way, and is not replayed; settled are: succeeded, dead, superseded, canceled",
                state.word()
            );
        }
        // What comes to be owed from now on, the replays among it, is none of what was meant.
        let now = SystemClock.now();
        let until = self.until.map_or(now, |until| until.min(now));
        let filter = DeliveryFilter {
            route: routes.first().cloned(),
            source: self.source.clone(),
            kind: self.kind.clone(),
            reason: self.reason,
            since: self.since,
            until: Some(until),
            unreplayed: !self.again,
            order: Order::Oldest,
            states,
            ..DeliveryFilter::default()
        };
        let found = history.delivery_count(filter.clone()).await?;
        Ok(Chosen {
            words: words(&filter, self.until.is_some()),
            filter,
            count: found.min(self.limit),
            found,
        })
    }
}

impl Chosen {
    /// What a person is asked before they are replayed.
    pub(super) fn question(&self) -> String {
        let (count, found) = (self.count, self.found);
        match count == found {
            true => format!("replay {count} {}", self.words),
            false => format!("replay the {count} oldest of {found} {}", self.words),
        }
    }

    /// Some of them: those behind `last`, where `done` were before.
    pub(super) async fn piece(
        &self,
        history: &dyn History,
        last: Option<DeliveryId>,
        most: usize,
        done: u64,
    ) -> anyhow::Result<Vec<DeliveryId>> {
        let left = usize::try_from(self.count.saturating_sub(done)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Vec::new());
        }
        let filter = DeliveryFilter {
            after: last,
            limit: most.min(left),
            ..self.filter.clone()
        };
        let found = history.deliveries(filter).await?;
        Ok(found.iter().map(|record| record.id).collect())
    }

    /// All of them.
    pub(super) async fn all(&self, history: &dyn History) -> anyhow::Result<Vec<String>> {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let done = u64::try_from(all.len()).unwrap_or(u64::MAX);
            let piece = self.piece(history, last, 1000, done).await?;
            let Some(newest) = piece.last() else {
                return Ok(all);
            };
            last = Some(*newest);
            all.extend(piece.iter().map(ToString::to_string));
        }
    }
}

/// What was chosen, in words.
fn words(filter: &DeliveryFilter, until: bool) -> String {
    let states: Vec<_> = filter.states.iter().map(|state| state.word()).collect();
    let mut words = format!("{} deliveries", states.join(" or "));
    let mut add = |what: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = write!(words, " {what} {value}");
        }
    };
    add("of route", filter.route.as_deref());
    add("of source", filter.source.as_deref());
    add("of type", filter.kind.as_deref());
    add("given up for", filter.reason.map(Reason::code));
    let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    add("owed since", moment(filter.since).as_deref());
    add("owed before", moment(filter.until.filter(|_| until)).as_deref());
    if filter.unreplayed {
        words.push_str(" that have not been replayed");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_said_before_it_is_done() {
        let filter = DeliveryFilter {
            states: vec![State::Dead],
            route: Some("tokens".into()),
            reason: Some(Reason::TimedOut),
            unreplayed: true,
            ..DeliveryFilter::default()
        };
        let chosen = Chosen {
            words: words(&filter, false),
            filter,
            count: 2,
            found: 3,
        };
        assert_eq!(
            chosen.question(),
            "replay the 2 oldest of 3 dead deliveries of route tokens given up for timed-out that have not been replayed"
        );
    }
}
