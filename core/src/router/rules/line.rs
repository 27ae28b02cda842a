//! Reads how deliveries of one order key stand to one another.

use std::num::NonZeroU32;

use crate::{
    delivery::{Coalesce, Keep, Line, NewestBy, OnStuck},
    document::{Item, Table},
    fault::Faults,
};

/// Reads the keys `supersede`, `newest_by`, `coalesce` and `on_stuck` of a route, which has an `order_by` or has none.
pub(super) fn read(table: &mut Table<'_>, ordered: bool, faults: &mut Faults) -> Line {
    let supersede = table.bool("supersede", faults).unwrap_or_default();
    let newest_by = table.take("newest_by");
    let coalesce = table.take("coalesce");
    let on_stuck = table.take("on_stuck");
    if let Some(item) = &newest_by
        && !supersede
        && coalesce.is_none()
    {
        let fault = item.key_fault("says which delivery is the newest, and nothing asks for it");
        faults.push(fault.help("write `supersede = true` or `coalesce = { … }` beside it, or leave it out"));
    }
    if let Some(item) = &on_stuck
        && !ordered
        && !supersede
        && coalesce.is_none()
    {
        let fault = item.key_fault(
            "says what those do that wait behind a dead delivery, and without `order_by` none does",
        );
        faults.push(fault.help("write `order_by = \"{{ … }}\"` beside it, or leave it out"));
    }
    let words = [NewestBy::Arrival, NewestBy::Time].map(|by| (by.word(), by));
    let newest_by = newest_by.and_then(|item| item.one_of(&words, faults));
    let words = [OnStuck::GoOn, OnStuck::Hold].map(|what| (what.word(), what));
    let on_stuck = on_stuck.and_then(|item| item.one_of(&words, faults));
    Line {
        supersede,
        newest_by: newest_by.unwrap_or_default(),
        coalesce: coalesce.and_then(|item| self::coalesce(&item, faults)),
        on_stuck: on_stuck.unwrap_or_default(),
    }
}

fn coalesce(item: &Item<'_>, faults: &mut Faults) -> Option<Coalesce> {
    let mut table = item.table(faults)?;
    let window = table.required("window", faults);
    let max_wait = table.take("max_wait");
    let max_items = table.integer("max_items", 2..=Coalesce::MOST_ITEMS, faults);
    let keep = table.one_of(
        "keep",
        &[Keep::Newest, Keep::All].map(|keep| (keep.word(), keep)),
        faults,
    );
    table.finish(faults);
    let given = window?;
    let window = given.duration(faults)?;
    let longest = match &max_wait {
        Some(item) => item.duration(faults)?,
        None => window
            .saturating_mul(Coalesce::DEFAULT_WINDOWS)
            .min(Coalesce::LONGEST_WAIT.max(window)),
    };
    if longest < window {
        let item = max_wait.as_ref().unwrap_or(&given);
        faults.push(item.fault("shorter than `window`, expected the longest that a burst lasts"));
        return None;
    }
    if window.is_zero() {
        faults.push(given.fault("no time at all, expected how long no event comes after a burst"));
        return None;
    }
    if longest > Coalesce::LONGEST_WAIT {
        let item = max_wait.as_ref().unwrap_or(&given);
        faults.push(item.fault("longer than a day, for which no event is kept waiting"));
        return None;
    }
    Some(Coalesce {
        window,
        max_wait: longest,
        max_items: max_items
            .and_then(NonZeroU32::new)
            .unwrap_or(Coalesce::DEFAULT_ITEMS),
        keep: keep.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::router::{Generation, RuleFile};

    /// The line of a route with these keys, or what is wrong with them.
    fn read(keys: &str) -> Result<Line, String> {
        let text =
            format!("[[route]]\nname = \"r\"\n{keys}\nwhen.type = [\"x\"]\n[[route.step]]\nuse = \"a\"\n");
        let file = RuleFile {
            name: "routes.toml".into(),
            text,
        };
        Generation::compile(&[file], None)
            .map(|generation| *generation.routes()[0].line())
            .map_err(|faults| faults.to_string())
    }

    #[test]
    fn what_is_left_out_of_a_line_has_a_default() {
        assert_eq!(read(""), Ok(Line::default()));
        let line = read("supersede = true\ncoalesce = { window = \"5s\" }").unwrap();
        let coalesce = line.coalesce.unwrap();
        assert!(line.supersede && line.newest_by == NewestBy::Arrival && line.on_stuck == OnStuck::GoOn);
        assert_eq!(
            (coalesce.max_wait, coalesce.max_items, coalesce.keep),
            (Duration::from_secs(50), Coalesce::DEFAULT_ITEMS, Keep::Newest)
        );
        // Ten windows would be more than any burst may last.
        let long = read("coalesce = { window = \"20h\" }").unwrap().coalesce.unwrap();
        assert_eq!(long.max_wait, Coalesce::LONGEST_WAIT);
    }

    #[test]
    fn what_means_nothing_is_told_with_the_next_step() {
        insta::assert_snapshot!(read("on_stuck = \"hold\"\nnewest_by = \"time\"").unwrap_err(), @r#"
        routes.toml:3:1: `route.on_stuck`: says what those do that wait behind a dead delivery, and without `order_by` none does
          3 | on_stuck = "hold"
            | ^^^^^^^^
            = write `order_by = "{{ … }}"` beside it, or leave it out
        routes.toml:4:1: `route.newest_by`: says which delivery is the newest, and nothing asks for it
          4 | newest_by = "time"
            | ^^^^^^^^^
            = write `supersede = true` or `coalesce = { … }` beside it, or leave it out
        "#);
        insta::assert_snapshot!(
            read("coalesce = { window = \"0s\", max_items = 1, keep = \"last\", wait = \"1s\" }").unwrap_err(),
            @r#"
        routes.toml:3:23: `route.coalesce.window`: no time at all, expected how long no event comes after a burst
          3 | coalesce = { window = "0s", max_items = 1, keep = "last", wait = "1s" }
            |                       ^^^^
        routes.toml:3:41: `route.coalesce.max_items`: found 1, expected a whole number from 2 to 1000
          3 | coalesce = { window = "0s", max_items = 1, keep = "last", wait = "1s" }
            |                                         ^
        routes.toml:3:51: `route.coalesce.keep`: found "last", expected "newest" or "all"
          3 | coalesce = { window = "0s", max_items = 1, keep = "last", wait = "1s" }
            |                                                   ^^^^^^
        routes.toml:3:59: `route.coalesce` has no key `wait`
          3 | coalesce = { window = "0s", max_items = 1, keep = "last", wait = "1s" }
            |                                                           ^^^^
            = there is: `window`, `max_wait`, `max_items`, `keep`
        "#
        );
        insta::assert_snapshot!(
            read("supersede = 1\ncoalesce = { window = \"2m\", max_wait = \"1m\" }").unwrap_err(),
            @r#"
        routes.toml:3:13: `route.supersede`: found a whole number, expected `true` or `false`
          3 | supersede = 1
            |             ^
        routes.toml:4:40: `route.coalesce.max_wait`: shorter than `window`, expected the longest that a burst lasts
          4 | coalesce = { window = "2m", max_wait = "1m" }
            |                                        ^^^^
        "#
        );
        insta::assert_snapshot!(
            read("coalesce = { window = \"1h\", max_wait = \"25h\" }").unwrap_err(),
            @r#"
        routes.toml:3:40: `route.coalesce.max_wait`: longer than a day, for which no event is kept waiting
          3 | coalesce = { window = "1h", max_wait = "25h" }
            |                                        ^^^^^
        "#
        );
        insta::assert_snapshot!(read("coalesce = { keep = \"all\" }").unwrap_err(), @r#"
        routes.toml:3:12: `route.coalesce` has no `window`, which is required
          3 | coalesce = { keep = "all" }
            |            ^^^^^^^^^^^^^^^^
        "#);
    }
}
