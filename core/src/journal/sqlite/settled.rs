//! How many deliveries were settled, whoever settled them: a call, a newer delivery, a person, an arrival that could not be owed.

use std::collections::BTreeMap;

use crate::delivery::State;

/// Deliveries that were settled, by their states.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled([u64; STATES.len()]);

impl Settled {
    /// Counts a delivery that comes to be in `state`, where that is one to stay in.
    pub(super) fn count(&mut self, state: State) {
        if let Some(at) = STATES.iter().position(|settled| *settled == state) {
            self.0[at] += 1;
        }
    }

    pub(super) fn add(&mut self, others: Self) {
        for (sum, more) in self.0.iter_mut().zip(others.0) {
            *sum += more;
        }
    }

    /// Every such state, with its number.
    pub(super) fn by_state(self) -> BTreeMap<&'static str, u64> {
        STATES.map(State::word).into_iter().zip(self.0).collect()
    }
}

const STATES: [State; 4] = [State::Succeeded, State::Dead, State::Superseded, State::Canceled];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_that_a_delivery_stays_in_is_counted_and_no_other() {
        let mut settled = Settled::default();
        let all = [State::Pending, State::Running, State::Waiting]
            .into_iter()
            .chain(STATES);
        for state in all {
            let before: u64 = settled.by_state().values().sum();
            settled.count(state);
            let after: u64 = settled.by_state().values().sum();
            assert_eq!(after - before, u64::from(state.is_settled()), "{state:?}");
        }
    }
}
