//! `send`: plays a provider for a configured source.

use std::{
    fs,
    io::Read,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};

use super::{
    Output, Shape, UNSET,
    http::{Answer, exchange},
    load, load_without_secrets, samples, say, say_json, wait,
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Source},
    provider::{self, plugin_of},
};

/// Play a provider: sign a payload as it would and post it to a source.
///
/// The payload is the provider's documented one, another sample of it, or a file. The source's own secrets sign it.
/// Exits with 0 where the router answered 200.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    /// The source to post to, as it is named in the configuration.
    source: String,
    /// Which sample of the provider's payloads; `--list` names them.
    #[arg(value_name = "SAMPLE", conflicts_with = "file")]
    sample: Option<String>,
    /// Post this file as it is; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The router's address, where it is not the configured one.
    #[arg(long, value_name = "http://HOST:PORT")]
    to: Option<String>,
    /// The provider's id of this delivery; the same again is a redelivery. Not every provider sends one.
    #[arg(long, value_name = "ID")]
    delivery: Option<String>,
    /// Spoil the proof: what a forger would send.
    #[arg(long)]
    forged: bool,
    /// Name the samples of the source's provider, and send nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    output: Output,
}

impl Send {
    pub(super) fn run(self, path: &Path) -> anyhow::Result<ExitCode> {
        // Whoever plays one provider needs the secrets of that one source, and to list its samples none at all.
        let config = &load_without_secrets(path)?;
        let source = self.find(config)?;
        let unset = source.options.secrets.iter().chain(&source.options.path_token);
        if !self.list && unset.into_iter().any(|secret| secret.expose() == UNSET) {
            load(path)?;
        }
        let provider = source.options.provider.as_str();
        if self.list {
            for sample in samples::of(provider) {
                say(sample.name)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let body = self.body(provider)?;
        let request = self.sign(source, &body)?;
        let to = self.address(config)?;
        let answer = wait(post(&to, request))??;
        self.print(&answer)?;
        Ok(if answer.status == StatusCode::OK {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn find<'c>(&self, config: &'c Config) -> anyhow::Result<&'c Source> {
        let found = config.sources.iter().find(|source| source.name == self.source);
        found.with_context(|| {
            let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
            let near = crate::fault::nearest(&self.source, names.iter().copied())
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_else(|| format!("; there is: {}", names.join(", ")));
            format!("there is no source `{}` in the configuration{near}", self.source)
        })
    }

    fn body(&self, provider: &str) -> anyhow::Result<Vec<u8>> {
        if let Some(file) = &self.file {
            if file.as_os_str() == "-" {
                let mut body = Vec::new();
                std::io::stdin().read_to_end(&mut body)?;
                return Ok(body);
            }
            return fs::read(file).with_context(|| format!("{} cannot be read", file.display()));
        }
        let mut known = samples::of(provider);
        let sample = match &self.sample {
            None => known.next(),
            Some(name) => known.find(|sample| sample.name == name),
        };
        let sample = sample.with_context(|| {
            let names: Vec<_> = samples::of(provider).map(|sample| sample.name).collect();
            format!(
                "there is no such sample of {provider}; there is: {}; or give a payload with `--file`",
                names.join(", ")
            )
        })?;
        Ok(sample.body.to_vec())
    }

    fn sign(&self, source: &Source, body: &[u8]) -> anyhow::Result<Request<Full<Bytes>>> {
        let provider = &source.options.provider;
        if plugin_of(provider).is_some() {
            bail!(
                "only the plugin knows how requests for `{provider}` are signed: send one with another program"
            );
        }
        let now = SystemClock.now();
        let delivery = self
            .delivery
            .clone()
            .unwrap_or_else(|| format!("jackfield-send-{:016x}", fastrand::u64(..)));
        let options = if self.forged {
            samples::forged(&source.options)
        } else {
            source.options.clone()
        };
        let signed = provider::sign(&options, body, now, &delivery)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(signed.path(&source.name))
            .header("user-agent", concat!("jackfield/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .context("the source's address is no path")?;
        request.headers_mut().extend(signed.headers);
        Ok(request)
    }

    /// The host and port to post to.
    fn address(&self, config: &Config) -> anyhow::Result<String> {
        let Some(to) = &self.to else {
            let mut address = config.listen.address;
            // A router that listens everywhere is found on this machine.
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            return Ok(address.to_string());
        };
        let Some(rest) = to.strip_prefix("http://") else {
            bail!("`{to}` does not begin with http://; TLS is left to what stands in front of the router");
        };
        let host = rest.trim_end_matches('/');
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        })
    }

    fn print(&self, answer: &Answer) -> anyhow::Result<()> {
        let body: serde_json::Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).trim().into());
        if self.output.output == Shape::Json {
            return say_json(&serde_json::json!({ "status": answer.status.as_u16(), "body": body }));
        }
        say(format!("{}  {body}", answer.status))?;
        if let Some(id) = body.get("id").and_then(serde_json::Value::as_str) {
            if body.get("duplicate").is_some_and(|duplicate| duplicate == true) {
                say(format!(
                    "a duplicate: nothing new is owed; `jackfield replay {id}` carries it out again"
                ))?;
            }
            say(format!("`jackfield events show {id}` tells what became of it"))?;
        } else if answer.status != StatusCode::OK {
            say("`jackfield refused list` tells the reason")?;
        }
        Ok(())
    }
}

async fn post(to: &str, mut request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let address = to
        .to_socket_addrs()
        .with_context(|| format!("{to} has no address"))?
        .next()
        .with_context(|| format!("{to} has no address"))?;
    request
        .headers_mut()
        .insert("host", to.parse().context("the host is no header")?);
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .with_context(|| format!("nothing listens at {to}; is `jackfield run` running?"))?;
    exchange(stream, request).await
}

const EXAMPLES: &str = "\
Examples:
  jackfield send design-system                       the provider's documented payload
  jackfield send screens --list                      which samples there are
  jackfield send screens --delivery 42               twice: the second is a duplicate
  jackfield send screens --forged                    what a forger gets
  jackfield send builds --file build.json            a payload of your own";
