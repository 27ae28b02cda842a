//! Which of many intervals hold a point.

use super::postings::Posting;

/// Closed intervals, each with what it leads to.
///
/// Sorted by their lower ends, they are a balanced tree without pointers: the middle of a range is the root of it,
/// and knows the highest end in it. So whoever asks goes through no more than what is found, times the depth.
#[derive(Debug)]
pub(super) struct Intervals<K> {
    intervals: Vec<Interval<K>>,
}

#[derive(Debug)]
struct Interval<K> {
    low: K,
    high: K,
    /// The highest end in the range that it is the middle of.
    highest: K,
    posting: Posting,
}

impl<K> Default for Intervals<K> {
    fn default() -> Self {
        Self {
            intervals: Vec::new(),
        }
    }
}

impl<K: Ord + Copy> Intervals<K> {
    /// Adds an interval, both ends included.
    pub(super) fn add(&mut self, low: K, high: K, posting: Posting) {
        self.intervals.push(Interval {
            low,
            high,
            highest: high,
            posting,
        });
    }

    /// Makes it ready to be asked.
    pub(super) fn seal(&mut self) {
        self.intervals.shrink_to_fit();
        self.intervals.sort_unstable_by_key(|interval| interval.low);
        seal(&mut self.intervals);
    }

    /// Gives what the intervals lead to that hold `point`.
    pub(super) fn get(&self, point: K, mut each: impl FnMut(Posting)) {
        get(&self.intervals, point, &mut each);
    }
}

fn seal<K: Ord + Copy>(intervals: &mut [Interval<K>]) -> Option<K> {
    let middle = intervals.len() / 2;
    let (before, rest) = intervals.split_at_mut(middle);
    let (root, after) = rest.split_first_mut()?;
    root.highest = [seal(before), seal(after)]
        .into_iter()
        .flatten()
        .fold(root.high, K::max);
    Some(root.highest)
}

fn get<K: Ord + Copy>(intervals: &[Interval<K>], point: K, each: &mut impl FnMut(Posting)) {
    let (before, rest) = intervals.split_at(intervals.len() / 2);
    let Some((root, after)) = rest.split_first() else {
        return;
    };
    if root.highest < point {
        return;
    }
    get(before, point, each);
    if root.low <= point {
        if point <= root.high {
            each(root.posting);
        }
        get(after, point, each);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_the_intervals_that_hold_the_point(ends in prop::collection::vec((0..20u8, 0..20u8), 0..40), point in 0..20u8) {
            let mut intervals = Intervals::default();
            for ((low, high), number) in ends.iter().zip(0..) {
                intervals.add(*low, *high, Posting::One(number));
            }
            intervals.seal();
            let mut found = Vec::new();
            intervals.get(point, |posting| found.push(posting));
            found.sort_by_key(|posting| match posting {
                Posting::One(number) | Posting::List(number) => *number,
            });
            let holding = ends.iter().zip(0..).filter(|((low, high), _)| (low..=high).contains(&&point));
            let expected: Vec<_> = holding.map(|(_, number)| Posting::One(number)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
