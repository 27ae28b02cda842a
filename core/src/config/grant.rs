//! `[instance.limits]` and `[instance.grant]`: what the process of an instance may take and do.

use std::{path::PathBuf, time::Duration};

use super::size;
use crate::{
    document::{Item, Table},
    fault::Faults,
    plugin::{Grant, Isolation, Limits},
};

/// Reads `[instance.limits]`.
pub(super) fn limits(table: &mut Table<'_>, isolation: Isolation, faults: &mut Faults) -> Limits {
    let mut limits = Limits::default();
    let Some(mut table) = of_process(table, "limits", isolation, faults) else {
        return limits;
    };
    if let Some(bytes) = size(&mut table, "memory", LEAST_MEMORY, usize::MAX >> 1, faults) {
        limits.memory = bytes as u64;
    }
    if let Some(count) = table.integer("open_files", LEAST_FILES..=1_048_576u64, faults) {
        limits.open_files = count;
    }
    if let Some(bytes) = size(&mut table, "core_file", 0, usize::MAX >> 1, faults) {
        limits.core_file = bytes as u64;
    }
    if let Some(item) = table.take("silence")
        && let Some(time) = item.duration(faults)
    {
        if time < LEAST_SILENCE {
            faults.push(item.fault(format!("found {time:?}, expected at least {LEAST_SILENCE:?}")));
        }
        limits.silence = time;
    }
    table.finish(faults);
    limits
}

/// Reads `[instance.grant]`.
pub(super) fn grant(table: &mut Table<'_>, isolation: Isolation, faults: &mut Faults) -> Grant {
    let Some(mut table) = of_process(table, "grant", isolation, faults) else {
        return Grant::default();
    };
    let grant = Grant {
        network: all(&mut table, "network", faults, |item, text, faults| {
            let parsed = text.parse();
            parsed.map_err(|error| faults.push(item.fault(error))).ok()
        }),
        read: all(&mut table, "read", faults, path),
        write: all(&mut table, "write", faults, path),
        programs: all(&mut table, "programs", faults, |item, text, faults| {
            let is_one = !text.is_empty() && (text.starts_with('/') || !text.contains('/'));
            if !is_one {
                let message = format!(
                    "found \"{text}\", expected the name of a program, or the absolute path of its file"
                );
                faults.push(item.fault(message));
            }
            is_one.then(|| text.to_owned())
        }),
    };
    table.finish(faults);
    grant
}

/// The table of `key`, which only a process of its own can have.
fn of_process<'d>(
    table: &mut Table<'d>,
    key: &'static str,
    isolation: Isolation,
    faults: &mut Faults,
) -> Option<Table<'d>> {
    let item = table.take(key)?;
    if isolation == Isolation::None {
        let fault =
            item.key_fault("it bounds a process, and with `isolation = \"none\"` that is the router's");
        faults.push(fault.help("leave out one of the two"));
        return None;
    }
    item.table(faults)
}

fn all<T>(
    table: &mut Table<'_>,
    key: &'static str,
    faults: &mut Faults,
    read: impl Fn(&Item<'_>, &str, &mut Faults) -> Option<T>,
) -> Vec<T> {
    let items = table.array(key, faults);
    let read = |item: &Item<'_>| {
        let text = item.string(faults)?;
        read(item, &text, faults)
    };
    items.iter().filter_map(read).collect()
}

fn path(item: &Item<'_>, text: &str, faults: &mut Faults) -> Option<PathBuf> {
    if text.is_empty() {
        faults.push(item.fault("found no path at all, expected one; relative ones begin in `data_dir`"));
        return None;
    }
    Some(PathBuf::from(text))
}

/// What a plugin with a runtime of its own needs to start.
const LEAST_MEMORY: usize = 32 << 20;
const LEAST_FILES: u64 = 32;
/// A process is asked twice in that time, and the machine may be busy.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
