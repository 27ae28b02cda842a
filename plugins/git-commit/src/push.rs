//! What a server answered to a push.

/// How a push ended that the server decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The branch is where we put it.
    Accepted,
    /// The branch was not where we thought: another push came before.
    Moved,
    /// The server will not have it: a hook or a protection of the branch.
    Refused(String),
    /// The server could not store it.
    Failed(String),
}

/// Reads the answer of `git push --porcelain`; `None` where there was none, and the conversation itself failed.
pub(crate) fn verdict(success: bool, stdout: &str, message: &str) -> Option<Verdict> {
    if success {
        return Some(Verdict::Accepted);
    }
    let line = stdout.lines().find_map(|line| line.strip_prefix("!\t"))?;
    let summary = line.split_once('\t').map_or(line, |(_, summary)| summary);
    let (kind, reason) = kind_and_reason(summary);
    let shown = || {
        format!("the server refused the push: {reason}\n{}", server_lines(message))
            .trim_end()
            .to_owned()
    };
    Some(match kind {
        "[rejected]" => Verdict::Moved,
        "[remote rejected]" if is_race(reason) => Verdict::Moved,
        "[remote rejected]" if reason.starts_with("unpacker error") => Verdict::Failed(shown()),
        "[remote rejected]" => Verdict::Refused(shown()),
        // The connection ended between the data and the report: it may have happened, and the next attempt looks.
        _ => return None,
    })
}

/// `[remote rejected] (hook declined)`: the part in brackets and the part in parentheses.
fn kind_and_reason(summary: &str) -> (&str, &str) {
    let end = summary.find(']').map_or(summary.len(), |end| end + 1);
    let (kind, reason) = summary.split_at(end);
    (kind, reason.trim().trim_start_matches('(').trim_end_matches(')'))
}

/// Whether another push held or moved the branch in the moment between the look and the update.
fn is_race(reason: &str) -> bool {
    [
        "cannot lock ref",
        "failed to lock",
        "failed to update ref",
        "reference already exists",
        "incorrect old value",
    ]
    .iter()
    .any(|sign| reason.contains(sign))
}

/// What the server said to people.
fn server_lines(message: &str) -> String {
    let said: Vec<&str> = message
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .collect();
    said.into_iter()
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "To /srv/x.git\n";

    #[track_caller]
    fn check(line: &str, message: &str, expected: Option<Verdict>) {
        assert_eq!(
            verdict(false, &format!("{HEAD}{line}\nDone\n"), message),
            expected,
            "{line}"
        );
    }

    #[test]
    fn a_moved_branch_is_told_from_a_refusal() {
        for reason in [
            "[rejected] (stale info)",
            "[rejected] (fetch first)",
            "[rejected] (non-fast-forward)",
            "[remote rejected] (cannot lock ref 'refs/heads/main': is at 1f but expected 2f)",
            "[remote rejected] (failed to update ref)",
            "[remote rejected] (reference already exists)",
        ] {
            check(
                &format!("!\t1f:refs/heads/main\t{reason}"),
                "",
                Some(Verdict::Moved),
            );
        }
        let message = "remote: error: GH006: Protected branch update failed for refs/heads/main.\nremote: \nerror: failed to push";
        check(
            "!\t1f:refs/heads/main\t[remote rejected] (protected branch hook declined)",
            message,
            Some(Verdict::Refused(
                "the server refused the push: protected branch hook declined\nerror: GH006: Protected branch update failed for refs/heads/main.".into(),
            )),
        );
        check(
            "!\t1f:refs/heads/main\t[remote rejected] (unpacker error)",
            "remote: fatal: No space left on device",
            Some(Verdict::Failed(
                "the server refused the push: unpacker error\nfatal: No space left on device".into(),
            )),
        );
    }

    #[test]
    fn no_answer_is_no_verdict() {
        check(
            "!\t1f:refs/heads/main\t[remote failure] (remote failed to report status)",
            "",
            None,
        );
        assert_eq!(
            verdict(false, "", "fatal: Could not read from remote repository."),
            None
        );
        assert_eq!(verdict(true, "", ""), Some(Verdict::Accepted));
    }
}
