//! What is asked of instances and calls.

use super::{Ruling, Verdict, left::nothing_found, seen, some};
use crate::plugin::check::evidence::{Answer, BadConfigs, Evidence, Heard, Storm, Tried};

pub(super) fn start(evidence: &Evidence) -> Ruling {
    seen(&evidence.start, |starts| {
        for (answer, which) in starts.answers.iter().zip(["first", "second"]) {
            match answer {
                Answer::Made => {}
                Answer::Refused {
                    message,
                    panicked: false,
                } if which == "first" && !evidence.config_was_given => {
                    return Ruling::skipped(format!(
                        "it refuses the empty configuration ({message}): give it one with `--instance-config`"
                    ));
                }
                Answer::Refused { message, .. } => {
                    return Ruling::failed(format!("the {which} instance was refused: {message}"))
                        .next(
                            "a configuration that fits the schema should start, again and again, with no more than the \
                             manifest says that the plugin needs",
                        );
                }
                Answer::Silent => {
                    return Ruling::failed(format!(
                        "for the {which} instance, `create` gave NULL and no reason"
                    ))
                    .next("call `start->fail` with a message first");
                }
                Answer::Late => return Ruling::failed(format!("the {which} instance did not start in time")),
            }
        }
        if starts.ended.contains(&false) {
            return Ruling::failed("an instance without a call did not end when it was shut down")
                .next("`shutdown` ends every thread of the instance and returns 0");
        }
        Ruling::passed("two instances in turn were created, shut down and destroyed")
    })
}

pub(super) fn bad_config(evidence: &Evidence) -> Ruling {
    seen(&evidence.bad_configs, |BadConfigs { answers, .. }| {
        let those = |wanted: fn(&Answer) -> bool| -> Vec<_> {
            let found = answers.iter().filter(|(_, answer)| wanted(answer));
            found.map(|(what, _)| what).collect()
        };
        let silent = those(|answer| matches!(answer, Answer::Silent));
        if !silent.is_empty() {
            return Ruling::failed(format!("it gave no reason why it refuses {}", some(&silent)))
                .next("call `start->fail` with a message before returning NULL");
        }
        let taken = those(|answer| matches!(answer, Answer::Made));
        let words = format!(
            "took {} of {} configurations that do not fit",
            taken.len(),
            answers.len()
        );
        if taken.len() == answers.len() {
            return Ruling::failed(format!("it {words}: it never refuses any")).next(
                "look at the configuration in `create`, and say by `start->fail` what is wrong with it",
            );
        }
        if !taken.is_empty() {
            return Ruling::warning(format!("it {words} its own schema: {}", some(&taken))).next(
                "the router checks the schema first, so this does no harm; an error would be kinder in tests",
            );
        }
        Ruling::passed(format!(
            "{} that do not fit were refused, each with a message",
            answers.len()
        ))
    })
}

pub(super) fn bad_input(evidence: &Evidence) -> Ruling {
    seen(&evidence.bad_inputs, |bad| {
        if bad.strays > 0 {
            return twice(bad.strays);
        }
        let taken = bad.calls.iter().filter(|(_, called)| called.taken);
        let taken: Vec<_> = taken.map(|(what, _)| what).collect();
        if taken.is_empty() {
            return Ruling::passed(format!(
                "{} calls whose input does not fit were refused, and the instance lives",
                bad.calls.len()
            ));
        }
        Ruling::warning(format!(
            "it carried out {} of {} calls whose input does not fit: {}",
            taken.len(),
            bad.calls.len(),
            some(&taken)
        ))
        .next("the router checks the schema first, so this does no harm; an error would be kinder in tests")
    })
}

pub(super) fn cancel(evidence: &Evidence) -> Ruling {
    let mut rulings: Vec<_> = evidence.storms.iter().map(cancelled).collect();
    let with = |wanted: fn(Verdict) -> bool| rulings.iter().position(|ruling| wanted(ruling.verdict));
    // A failure speaks for all of them, and then what could not be told.
    let worst =
        with(|verdict| verdict == Verdict::Failed).or_else(|| with(|verdict| verdict != Verdict::Passed));
    match worst {
        Some(worst) => rulings.swap_remove(worst),
        None => {
            let found: Vec<_> = rulings.into_iter().map(|ruling| ruling.found).collect();
            Ruling::passed(found.join("; "))
        }
    }
}

fn cancelled(storm: &Tried<Storm>) -> Ruling {
    seen(storm, |storm| {
        if storm.strays > 0 {
            return twice(storm.strays);
        }
        if storm.late > 0 {
            return Ruling::failed(format!(
                "{} of {} {} did not end although they were cancelled",
                storm.late,
                storm.begun,
                storm.kind.word()
            ))
            .next("look at `*cancelled` while you wait, or let `op_cancel` wake whoever waits; in Rust, do not block");
        }
        if !storm.ended {
            return Ruling::failed("the instance did not end after its calls had")
                .next("`shutdown` ends every thread of the instance and returns 0");
        }
        let outcomes: Vec<_> = storm
            .outcomes
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        Ruling::passed(format!(
            "{} {} of two instances were begun and cancelled at once, and each ended once: {}",
            storm.begun,
            storm.kind.word(),
            outcomes.join(", ")
        ))
    })
}

pub(super) fn twice(strays: usize) -> Ruling {
    Ruling::failed(format!("{strays} times it ended a call that had ended already"))
        .next("call `done` exactly once for each call, on every path")
}

pub(super) fn panics(evidence: &Evidence) -> Ruling {
    let mut panics = Vec::new();
    if let Tried::Saw(starts) = &evidence.start {
        panics.extend(
            starts
                .answers
                .iter()
                .filter_map(|answer| panic_of(answer, "its configuration")),
        );
    }
    if let Tried::Saw(BadConfigs { answers, .. }) = &evidence.bad_configs {
        panics.extend(answers.iter().filter_map(|(what, answer)| panic_of(answer, what)));
    }
    if let Tried::Saw(bad) = &evidence.bad_inputs {
        let panicked = bad.calls.iter().filter(|(_, called)| called.panicked);
        panics.extend(panicked.map(|(what, called)| format!("called with {what}: {}", called.message)));
    }
    if let Tried::Saw(requests) = &evidence.requests {
        panics.extend(requests.heard.iter().filter_map(|(request, heard)| match heard {
            Heard::NoVerdict {
                message,
                panicked: true,
            } => Some(format!("asked about {}: {message}", request.what)),
            _ => None,
        }));
    }
    for storm in &evidence.storms {
        if let Tried::Saw(storm) = storm {
            panics.extend(storm.panics.iter().map(|message| format!("cancelled: {message}")));
            // One stands for all.
            panics.dedup();
        }
    }
    let Some(first) = panics.first() else {
        return nothing_found(evidence, "none could be provoked");
    };
    Ruling::warning(format!("{} were provoked, and contained; the first when {first}", panics.len()))
        .next("a panic fails its call and nothing else, but nobody learns from it: return an error that says what is wrong")
}

fn panic_of(answer: &Answer, what: &str) -> Option<String> {
    match answer {
        Answer::Refused {
            message,
            panicked: true,
        } => Some(format!("created with {what}: {message}")),
        Answer::Refused { .. } | Answer::Made | Answer::Silent | Answer::Late => None,
    }
}
