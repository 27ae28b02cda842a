//! `send`: plays a provider for a configured source.

mod tls;

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
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::{
    Output, Shape, UNSET,
    http::{Answer, exchange},
    load, load_without_secrets, samples, say, say_json, wait,
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Source},
    provider::{self, SignedRequest, plugin_of},
};

use tls::Tls;

/// Play a provider: sign a payload as it would and post it to a source.
///
/// The payload is the provider's documented one, another sample of it, or a file. The source's own secrets sign it; how the
/// requests of a plugin's provider are signed, only the plugin knows: give it a file, and what proves it with `--header`. Exits with 0 where the router answered 200.
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
    /// Send this header, too.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The router's address, where it is not the configured one, or that of what stands in front of it.
    #[arg(long, value_name = "http[s]://HOST:PORT")]
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
        if self.list && plugin_of(provider).is_some() {
            bail!("{}", self.no_sample(provider));
        }
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
        if plugin_of(provider).is_some() {
            bail!("{}", self.no_sample(provider));
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

    fn no_sample(&self, provider: &str) -> String {
        let source = &self.source;
        format!(
            "only the plugin knows the payloads of `{provider}`: give one, as in `jackfield send {source} --file order.json`"
        )
    }

    fn sign(&self, source: &Source, body: &[u8]) -> anyhow::Result<Request<Full<Bytes>>> {
        let signed = match plugin_of(&source.options.provider) {
            Some(_) => self.proven(source)?,
            None => self.signed(source, body)?,
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(signed.path(&source.name))
            .header("user-agent", concat!("jackfield/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .context("the source's address is no path")?;
        let headers = request.headers_mut();
        headers.extend(signed.headers);
        for (name, value) in &self.header {
            headers.append(name, value.clone());
        }
        Ok(request)
    }

    /// As the provider would sign it.
    fn signed(&self, source: &Source, body: &[u8]) -> anyhow::Result<SignedRequest> {
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
        Ok(provider::sign(&options, body, now, &delivery)?)
    }

    /// With what proves a request to a plugin, as far as that can be known here: the token in its address, and whatever is given.
    fn proven(&self, source: &Source) -> anyhow::Result<SignedRequest> {
        let (options, provider) = (&source.options, &source.options.provider);
        let sent = [("--delivery", self.delivery.is_some()), ("--forged", self.forged)];
        if let Some((flag, _)) = sent.iter().find(|(_, given)| *given) {
            bail!(
                "only the plugin knows how `{provider}` sends what `{flag}` is about: put it into a `--header`, or spoil one"
            );
        }
        if self.header.is_empty() && options.path_token.is_none() && !options.unverified {
            bail!(
                "only the plugin knows how requests for `{provider}` are signed: sign this one by hand, as its documentation says, and \
                 give what proves it, as in `--header 'acme-signature: 5d41…'`"
            );
        }
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(SignedRequest {
            headers: HeaderMap::from_iter([json]),
            token: options.path_token.clone(),
        })
    }

    /// Where to post to.
    fn address(&self, config: &Config) -> anyhow::Result<Address> {
        let Some(to) = &self.to else {
            let mut address = config.listen.address;
            // A router that listens everywhere is found on this machine.
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            let tls = config.listen.tls.as_ref();
            return Ok(Address {
                host: address.to_string(),
                tls: tls.map(|tls| Tls::of(tls.files()[0])).transpose()?,
            });
        };
        let (host, port, tls) = match to.split_once("://") {
            Some(("http", host)) => (host, 80, None),
            Some(("https", host)) => (host, 443, Some(Tls::of_system()?)),
            _ => bail!("`{to}` begins neither with http:// nor with https://"),
        };
        let host = host.trim_end_matches('/');
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = match has_port {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        Ok(Address { host, tls })
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

/// `acme-signature: 5d41…`
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("it has no colon; write a name and a value, as in `x-signature: 5d41…`")?;
    let name = name
        .trim()
        .parse::<HeaderName>()
        .map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// Where requests go to.
struct Address {
    /// With the port.
    host: String,
    /// Where it is spoken there.
    tls: Option<Tls>,
}

async fn post(to: &Address, mut request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let Address { host, tls } = to;
    let addresses: Vec<_> = host
        .to_socket_addrs()
        .with_context(|| format!("{host} has no address"))?
        .collect();
    request
        .headers_mut()
        .insert("host", host.parse().context("the host is no header")?);
    let stream = tokio::net::TcpStream::connect(addresses.as_slice())
        .await
        .with_context(|| format!("nothing listens at {host}; is `jackfield run` running?"))?;
    let Some(tls) = tls else {
        return exchange(stream, request).await;
    };
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let stream = tls.connect(name.trim_matches(['[', ']']), stream).await?;
    exchange(stream, request).await
}

const EXAMPLES: &str = "\
Examples:
  jackfield send design-system                       the provider's documented payload
  jackfield send screens --list                      which samples there are
  jackfield send screens --delivery 42               twice: the second is a duplicate
  jackfield send screens --forged                    what a forger gets
  jackfield send builds --file build.json            a payload of your own
  jackfield send orders --file order.json --header 'acme-signature: 5d41…' --header 'acme-timestamp: 1767225600'
                                                     for the provider of a plugin";
