//! One request over one connection: what `send` and the control socket need of HTTP.

use anyhow::bail;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Sends `request` over `stream` and reads the whole answer.
pub(super) async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::Ok(Answer {
            status: head.status,
            body,
        })
    };
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = exchange => answer,
        ended = &mut connection => {
            ended?;
            bail!("the router ended the connection before it answered")
        }
    }
}
