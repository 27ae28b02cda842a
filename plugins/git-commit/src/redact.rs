//! What git and a server said, made fit to be shown: without credentials, without control characters, and short.

/// The most that is kept of a message.
const LONGEST: usize = 2000;

/// `text` without `secrets`, without the user part of addresses, and without authorization headers.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    let lines = text.lines().map(|line| hide_user(&hide_header(&printable(line))));
    let text = lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `https://user:password@host` becomes `https://***@host`. The user of ssh is no secret, but a password is.
fn hide_user(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || "'\"".contains(c))
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) if before.ends_with("ssh://") && !after[..at].contains(':') => after,
            Some(at) => {
                shown.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

fn hide_header(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    match lower.find("authorization:") {
        Some(start) => format!("{} ***", &line[..start + "authorization:".len()]),
        None => line.to_owned(),
    }
}

/// Progress bars overwrite themselves with carriage returns: what follows the last one counts.
fn printable(line: &str) -> String {
    let last = line.trim_end().rsplit('\r').next().unwrap_or_default();
    last.chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(redact(text, &["s3cr3t".to_owned(), String::new()]), shown);
    }

    #[test]
    fn credentials_are_never_shown() {
        check("token s3cr3t and s3cr3t", "token *** and ***");
        check(
            "fatal: https://me:pw@host/x and http://me@h",
            "fatal: https://***@host/x and http://***@h",
        );
        check("fatal: 'https://a:b@c@host/x'", "fatal: 'https://***@host/x'");
        check(
            "ssh://git@host/x ssh://git:pw@host/x",
            "ssh://git@host/x ssh://***@host/x",
        );
        check("> AUTHORIZATION: Basic eDp5", "> AUTHORIZATION: ***");
        check("no://secret here@all", "no://secret here@all");
    }

    #[test]
    fn terminals_are_not_driven() {
        check(
            "remote: \u{1b}[31mno\u{7}\n\n\u{9b}x\r\nCounting: 1%\rCounting: 100%\r\ndone",
            "remote: [31mno\nx\nCounting: 100%\ndone",
        );
        assert_eq!(redact(&"é".repeat(3000), &[]).chars().count(), LONGEST + 1);
    }
}
