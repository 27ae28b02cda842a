//! The servers that Jackfield is compared with: its own way of serving, with less behind it.

use std::{net::SocketAddr, path::Path, sync::Arc, thread};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jackfield::{
    clock::{Clock as _, SystemClock},
    provider::{self, Options, Provider, Translation},
    secret::Secret,
};
use jackfield_event::EventId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, task::LocalSet};

use crate::floor::Floor;

/// The secret of the benchmark's Zeplin source.
pub(crate) const SECRET: &str = "bench-secret";

/// What a server does with a body.
#[derive(Clone)]
enum Work {
    Read,
    Translate(Arc<dyn Provider>),
    Append(Arc<dyn Provider>, Floor),
}

/// Serves `kind` on a free port, prints the address, and never returns. `file` is where the floor appends.
pub(crate) fn serve(kind: &str, file: Option<&str>) -> anyhow::Result<()> {
    let work = match kind {
        "bare" => Work::Read,
        "translate" => Work::Translate(provider::build(zeplin_options())?),
        "floor" => Work::Append(
            provider::build(zeplin_options())?,
            Floor::open(Path::new(file.context("the floor needs a file")?))?,
        ),
        _ => anyhow::bail!("`{kind}` is none of bare, translate and floor"),
    };
    let first = listener("127.0.0.1:0".parse()?)?;
    let address = first.local_addr()?;
    let others = thread::available_parallelism()?.get() - 1;
    let threads: Vec<_> = std::iter::once(Ok(first))
        .chain((0..others).map(|_| listener(address)))
        .map(|listener| {
            let (listener, work) = (listener?, work.clone());
            anyhow::Ok(thread::spawn(move || accept(listener, &work)))
        })
        .collect::<Result<_, _>>()?;
    println!("{address}");
    for thread in threads {
        thread.join().expect("a server thread does not panic")?;
    }
    Ok(())
}

/// The benchmark's Zeplin source.
pub(crate) fn zeplin_options() -> Options {
    Options {
        provider: "zeplin".into(),
        secrets: vec![Secret::new(SECRET)],
        ..Options::default()
    }
}

/// A socket that shares its port with those of the other threads.
fn listener(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn accept(listener: std::net::TcpListener, work: &Work) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let work = work.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(|request| answer(&work, request));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new())
                    .header_read_timeout(std::time::Duration::from_secs(30));
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn answer(work: &Work, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    match work {
        Work::Read => {}
        Work::Translate(provider) => translate(&**provider, head.headers, body)?,
        Work::Append(provider, floor) => {
            translate(&**provider, head.headers, body.clone())?;
            floor.append(body).await;
        }
    }
    Ok(Response::new(Full::default()))
}

fn translate(provider: &dyn Provider, headers: hyper::HeaderMap, body: Bytes) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let request = provider::Request {
        headers,
        body,
        token: None,
        received: now,
    };
    let verified = provider.verify(&request)?;
    match provider.translate(EventId::new(now, fastrand::u128(..)), "screens", &verified)? {
        Translation::Event(event) => {
            std::hint::black_box(event.event.to_json());
            Ok(())
        }
        Translation::Handshake(_) => anyhow::bail!("a screen version is no handshake"),
    }
}
