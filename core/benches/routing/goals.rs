//! What is to be reached, whatever machine it is: shares and ratios within one run, memory, and times with much to spare.

use jackfield_stage::marks::Marks;

use crate::{events::Size, rules::Kind};

/// What was found of events of one size and so many rules of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Of an event, in microseconds.
    pub(crate) strict: f64,
    pub(crate) matcher: f64,
    /// From their text to the table, in seconds.
    pub(crate) built: f64,
    /// Of a rule, in bytes.
    pub(crate) memory: f64,
}

impl Figures {
    fn share(&self) -> f64 {
        self.strict / self.matcher
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<(Size, Kind, u32, Figures)>);

impl Found {
    pub(crate) fn add(&mut self, size: Size, kind: Kind, count: u32, figures: Figures) {
        self.0.push((size, kind, count, figures));
    }

    fn of(&self, size: Size, kind: Kind, count: u32) -> Option<Figures> {
        let asked = (size, kind, count);
        let found = self.0.iter().find(|found| (found.0, found.1, found.2) == asked);
        found.map(|found| found.3)
    }

    /// The worst of so many rules, of any kind.
    fn built(&self, count: u32) -> Option<f64> {
        let built = self.0.iter().filter(|found| found.2 == count);
        built.map(|found| found.3.built).reduce(f64::max)
    }

    pub(crate) fn hold_to(&self, marks: &mut Marks) {
        for (size, count, mark) in [
            (Size::Large, 10_000, 80.0),
            (Size::Large, 100_000, 65.0),
            (Size::Small, 10_000, 70.0),
        ] {
            let found = self.of(size, Kind::Mixed, count);
            let share = found.map(|found| 100.0 * found.share());
            let what = format!(
                "share of the strict parse, events of {}, {count} mixed rules",
                kilobytes(size)
            );
            marks.at_least(what, share, mark, "%");
        }
        for size in Size::ALL {
            // Not the times themselves, between which the machine may have been given more to do: the events are the same.
            let times = |one: Option<Figures>, other: Option<Figures>| Some(one?.share() / other?.share());
            let size_told = kilobytes(size);
            for kind in [Kind::Exact, Kind::Mixed] {
                let [few, many] = [100, 100_000].map(|count| self.of(size, kind, count));
                let kind = format!("{kind:?}").to_lowercase();
                let what = format!("100,000 {kind} rules to 100, events of {size_told}");
                marks.at_most(what, times(few, many), 1.5, "times");
            }
            let [exact, substring] = [Kind::Exact, Kind::Substring].map(|kind| self.of(size, kind, 10_000));
            let what = format!("10,000 substring rules to exact ones, events of {size_told}");
            marks.at_most(what, times(exact, substring), 1.6, "times");
        }
        // Those of large events have a second field: the type.
        let memory = self.of(Size::Large, Kind::Exact, 100_000);
        let memory = memory.map(|found| found.memory);
        marks.at_most("memory of a rule of two fields", memory, 600.0, "B");
        let slowest = |count| self.built(count).map(|seconds| 1e3 * seconds);
        marks.at_most("10,000 rules read and built", slowest(10_000), 50.0, "ms");
        marks.at_most("100,000 rules read and built", slowest(100_000), 500.0, "ms");
    }
}

fn kilobytes(size: Size) -> &'static str {
    match size {
        Size::Large => "10 KB",
        Size::Small => "0.6 KB",
    }
}
