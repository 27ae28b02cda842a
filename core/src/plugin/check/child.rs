//! Runs one task in a child, and makes of whatever becomes of that something that was seen, or a way in which it broke.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use super::{
    super::{
        describe::{by_path, end_group, read, said, signal_name},
        egress::{self, Pass},
        elf::{self, Hazard},
    },
    evidence::{Assignment, Broken, Line, Tried},
    trial::COMMAND,
};

/// What the child sees, unless it ends otherwise or takes longer than the task's limit. It has no environment but what the
/// system's loader must know of a library with these hazards, and the way out that the pass is for.
///
/// # Errors
/// When there can be no child.
pub(super) async fn run<T: DeserializeOwned>(
    program: &Path,
    hazards: &[Hazard],
    pass: Option<&Pass>,
    assignment: &Assignment,
) -> io::Result<Tried<T>> {
    let task = serde_json::to_vec(assignment)?;
    let mut way_out = Vec::new();
    if let Some(pass) = pass {
        way_out.push((egress::VARIABLE, pass.url().into()));
        way_out.push((egress::TUNNEL, by_path(program)?));
    }
    // It stays in this directory, where relative paths of a configuration lie.
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .envs(elf::environment(hazards))
        .envs(way_out)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // Where it has died already, its end says so.
            let _ = stdin.write_all(&task).await;
        }
    };
    let (status, told, words, ()) = tokio::join!(
        end(&mut child, assignment.limit),
        read(stdout, TOLD_LIMIT),
        read(stderr, WORDS_LIMIT),
        give
    );
    Ok(judge(status?, &told?, &words?, assignment.limit))
}

/// Waits for the end of the child for as long as `limit`, and ends whatever is left of it: what it started could go on, and
/// hold open what is read of it.
async fn end(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let group = child.id();
    let ended = tokio::time::timeout(limit, child.wait()).await;
    group.into_iter().for_each(end_group);
    ended.ok().transpose()
}

fn judge<T: DeserializeOwned>(
    status: Option<ExitStatus>,
    told: &[u8],
    words: &[u8],
    limit: Duration,
) -> Tried<T> {
    let mut during = "before it was loaded".to_owned();
    for line in told.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line<T>>(line) {
            Ok(Line::During(what)) => during = what,
            Ok(Line::Unable(how)) => return Tried::Broke(Broken { how, during }),
            Ok(Line::Saw(evidence)) => return Tried::Saw(evidence),
            // What the plugin wrote among it, or the end of a line that was cut off.
            Err(_) => {}
        }
    }
    let said = said(String::from_utf8_lossy(words).trim());
    let how = match status.map(|status| (status.signal(), status.code())) {
        None => format!("it did not end within {limit:?}{said}:"),
        Some((Some(signal), _)) => format!("it crashed ({}){said},", signal_name(signal)),
        Some((None, code)) => format!(
            "it ended the process (status {}){said},",
            code.unwrap_or_default()
        ),
    };
    Tried::Broke(Broken { how, during })
}

const TOLD_LIMIT: u64 = 4 << 20;
const WORDS_LIMIT: u64 = 64 << 10;
