//! What one long list costs as it grows, with ten thousand rules about its elements.

use std::hint::black_box;

use jackfield::router::Table;
use jackfield_stage::marks::Marks;

use crate::{each, events, found, medians, parse, read};

const RULES: u32 = 10_000;
/// Each twice as long as the one before.
const BYTES: [usize; 3] = [155_000, 310_000, 620_000];
/// Twice, if the work is linear; four times, if it is quadratic.
const GROWTH_MARK: f64 = 2.5;
const TIME_MARK: f64 = 5.0;

pub(crate) fn measure(marks: &mut Marks) -> anyhow::Result<()> {
    println!("\none long list, {RULES} rules about its elements");
    let table = Table::compile(read(&rules())?);
    let mut before = None;
    for bytes in BYTES {
        let event = vec![events::long(bytes)];
        let [strict, matcher] = medians([&mut || each(&event, parse), &mut || {
            each(&event, |event| {
                black_box(found(&table, event)?);
                Ok(())
            })
        }])?;
        println!(
            "{:>4} KB: {:>5.2} ms, strict parse {:.2} ms",
            bytes / 1000,
            matcher / 1e3,
            strict / 1e3
        );
        if let Some((shorter, time)) = before.replace((bytes, matcher)) {
            let what = format!("a list of {} KB to one of {} KB", bytes / 1000, shorter / 1000);
            marks.at_most(what, matcher / time, GROWTH_MARK, "times");
        }
    }
    let [.., longest] = BYTES;
    let time = before.map(|(_, time)| time / 1e3);
    marks.at_most(format!("a list of {} KB", longest / 1000), time, TIME_MARK, "ms");
    Ok(())
}

/// Two by which every element counts, and others by which none does, so that what grows is the list alone.
fn rules() -> Vec<String> {
    let all = [
        r#"{"a":{"x":[{"exists":true}],"y":["none"]}}"#.to_owned(),
        r#"{"a":{"x":[{"numeric":[">",1]}],"y":[{"suffix":"9"}]}}"#.to_owned(),
    ];
    let others =
        (2..RULES).map(|number| format!(r#"{{"a":{{"x":[{}],"y":["{number}-"]}}}}"#, 1_000_000 + number));
    all.into_iter().chain(others).collect()
}
