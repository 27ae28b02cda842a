//! What goes to the running router through its control socket.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    http::{Answer, exchange},
    wait,
};
use crate::{
    admin::{self, Problem},
    app,
};

/// Whether a router runs whose data lies in `data_dir`.
pub(super) fn is_running(data_dir: &Path) -> anyhow::Result<bool> {
    let socket = app::socket(data_dir);
    match wait(admin::connect(&socket))? {
        Ok(_) => Ok(true),
        // What a router that was killed leaves behind refuses.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be reached", socket.display())),
    }
}

/// Asks the running router whose data lies in `data_dir`.
pub(super) fn ask(data_dir: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    wait(answer(data_dir, method, path, body))?
}

/// Has the running router do what is written down, and reads what it says of it.
pub(super) async fn post<W: Serialize, A: DeserializeOwned>(
    data_dir: &Path,
    path: &str,
    what: &W,
) -> anyhow::Result<A> {
    let answer = answer(data_dir, Method::POST, path, serde_json::to_vec(what)?).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn answer(data_dir: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let socket = app::socket(data_dir);
    let Answer { status, body: answer } = connect_and_ask(&socket, method, path, body).await?;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    match serde_json::from_slice::<Problem>(&answer) {
        Ok(Problem {
            faults: Some(faults), ..
        }) => Err(faults.into()),
        Ok(problem) => Err(anyhow!("the router refused: {problem}")),
        Err(_) => bail!(
            "the router answered {status}: {}",
            String::from_utf8_lossy(&answer).trim()
        ),
    }
}

async fn connect_and_ask(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    let stream = admin::connect(socket).await.with_context(|| {
        format!(
            "no router runs on {}; start it with `jackfield run`, then ask again",
            socket.parent().unwrap_or(socket).display()
        )
    })?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)))?;
    exchange(stream, request).await
}
