//! What is asked of a plugin that brings a provider.

use super::{Ruling, behaviour::twice, seen, some};
use crate::plugin::check::evidence::{BadRequests, Evidence, Heard};

pub(super) fn bad_request(evidence: &Evidence) -> Ruling {
    seen(&evidence.requests, |bad| {
        if bad.strays > 0 {
            return twice(bad.strays);
        }
        let asked = bad.heard.len();
        let signed = those(bad, |heard| *heard == Heard::Believed(SIGNATURE.to_owned()));
        if !signed.is_empty() {
            return Ruling::failed(format!(
                "it takes {} of {asked} requests for signed that nobody has signed: {}",
                signed.len(),
                some(&signed)
            ))
            .next("refuse what is not signed with one of `secrets`, before you look at anything else of it");
        }
        let late = those(bad, |heard| *heard == Heard::Late);
        if !late.is_empty() {
            return Ruling::failed(format!("it gave no verdict in time of {}", some(&late)))
                .next("end each request, with a verdict or without one: its sender waits, and tries again");
        }
        let nonsense = bad.heard.iter().find_map(|(request, heard)| match heard {
            Heard::Nonsense(why) => Some(format!(
                "it gave no verdict that the ABI knows, of {}: {why}",
                request.what
            )),
            _ => None,
        });
        if let Some(nonsense) = nonsense {
            return Ruling::failed(nonsense)
                .next("put out an object with `refused`, `event` or `handshake` in it");
        }
        lenient(bad).unwrap_or_else(|| {
            Ruling::passed(format!(
                "{asked} requests that prove nothing were handed over: none was believed that may not be"
            ))
        })
    })
}

/// What a router does not let pass, and a plugin need not.
fn lenient(bad: &BadRequests) -> Option<Ruling> {
    let proof = bad.heard.iter().find_map(|(request, heard)| match heard {
        Heard::Believed(proof) if !request.unverified => Some((request, proof)),
        _ => None,
    });
    if let Some((request, proof)) = proof {
        let words = format!(
            "it believes {} (as `{proof}`), which the source has not allowed",
            request.what
        );
        let next = "the router accepts nothing so, and answers with a 503 for ever; look at `unverified` and `path_token`";
        return Some(Ruling::warning(words).next(next));
    }
    let answered = those(bad, |heard| *heard == Heard::Handshake);
    (!answered.is_empty()).then(|| {
        Ruling::warning(format!(
            "it answers as a handshake what proves nothing: {}",
            some(&answered)
        ))
        .next("where the provider signs its handshakes, verify them first, as all else")
    })
}

/// What was wrong with the requests of which that was heard, but for those that the source believes anyway.
fn those(bad: &BadRequests, wanted: impl Fn(&Heard) -> bool) -> Vec<&String> {
    let found = bad.heard.iter().filter(|(request, heard)| {
        let excused = request.unverified && matches!(heard, Heard::Believed(_) | Heard::Handshake);
        wanted(heard) && !excused
    });
    found.map(|(request, _)| &request.what).collect()
}

const SIGNATURE: &str = "signature";
