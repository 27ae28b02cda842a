//! The JSON Schema of the configuration file, for editors. The reader, not this, decides what is valid.

use serde_json::{Value, json};

/// The JSON Schema (2020-12) of `jackfield.toml`.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jackfield's configuration",
        "type": "object",
        "additionalProperties": false,
        "required": ["routes", "source"],
        "properties": {
            "data_dir": { "type": "string", "default": "data", "description": "The journal, work directories and the control socket." },
            "routes": { "type": "string", "description": "A rule file, or a directory of *.toml." },
            "listen": listen(),
            "admin": section(json!({
                "address": address("127.0.0.1:9090", "Where /healthz, /readyz and /metrics are; a loopback address."),
            })),
            "plugins": section(json!({
                "dir": { "type": "string", "default": "plugins", "description": "Where plugins (*.so) are dropped." },
                "lock": { "type": "string", "description": "The file that says which libraries there may be; `jackfield plugin lock` writes it." },
                "keys": { "type": "array", "items": { "type": "string" }, "description": "Public keys of minisign's: a signature beside a library must be by one of them." },
                "require_signed": { "type": "boolean", "default": false, "description": "Whether a library without a signature is refused." },
                "drain": time("30s", "How long calls may go on in a plugin that is replaced or removed."),
                "patience": time("7d", "How long a delivery waits for an instance that is not there."),
            })),
            "retention": section(json!({
                "payloads": age("30d", "How long bodies of requests are kept: what replays need."),
                "events": age("90d", "How long events are kept, without their payloads if need be."),
                "outcomes": age("180d", "How long is kept what became of them: deliveries, attempts, receipts."),
                "dead_letters": age("180d", "How long all of an event is kept that has a dead letter which nobody replayed."),
                "max_events": { "type": "integer", "minimum": 1000, "description": "How many events are kept at most; of more, the oldest go." },
                "max_size": size("8GiB", "How much the journal takes at most; of more, whatever is closest to its age goes."),
            })),
            "shutdown": section(json!({ "grace": time("25s", "How long stopping may take in all; at least a second.") })),
            "log": section(json!({
                "format": { "enum": ["auto", "text", "json"], "default": "auto", "description": "Text on a terminal and JSON elsewhere, or always one of them." },
                "level": { "type": "string", "default": "info", "description": "A level, or target=level,…; RUST_LOG has the last word." },
            })),
            "source": { "type": "array", "minItems": 1, "items": source() },
            "instance": { "type": "array", "items": instance() },
        },
        "$defs": {
            "rate": rate(),
            "name": { "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" },
            "time": { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" },
            "size": { "type": "string", "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)$" },
            "secret": {
                "description": "Where a secret lies; it is never written here.",
                "oneOf": [
                    { "type": "object", "required": ["env"], "additionalProperties": false, "properties": { "env": { "type": "string" } } },
                    { "type": "object", "required": ["file"], "additionalProperties": false, "properties": { "file": { "type": "string" } } },
                ],
            },
        },
    })
}

fn listen() -> Value {
    section(json!({
        "address": address("127.0.0.1:8080", "Where webhooks come in."),
        "tls": tls(),
        "acceptors": count("Threads that accept and serve; by default one for each core."),
        "connections": count("Connections open at a time; fewer, where so few files may be open."),
        "headers": count("Headers of one request."),
        "header_size": size("16KiB", "All headers of one request."),
        "header_timeout": time("30s", "To send the headers, and for a connection to lie idle."),
        "body_size": size("5MiB", "The body of one request, where a source does not say otherwise."),
        "body_timeout": time("30s", "To send the body."),
        "commit_timeout": time("8s", "To wait for the disk before a request is answered 503."),
        "body_memory": size("64MiB", "The bodies of all requests in flight."),
        "streams": count("Requests in flight on one HTTP/2 connection."),
    }))
}

fn tls() -> Value {
    let file = |description| json!({ "type": "string", "description": description });
    let mut tls = section(json!({
        "certificate": file("The certificate and those of the authorities that vouch for it, in PEM."),
        "key": file("Its private key, in PEM, without a passphrase."),
    }));
    tls["required"] = json!(["certificate", "key"]);
    tls
}

fn source() -> Value {
    let providers: Vec<_> = crate::provider::names().collect();
    let mut source = section(json!({
        "name": { "$ref": "#/$defs/name", "description": "What the address ends with: POST /in/<name>." },
        "provider": {
            "description": "Who calls; `plugin:` and the name of an instance for a provider that is a plugin.",
            "anyOf": [{ "enum": providers }, { "type": "string", "pattern": "^plugin:[a-z0-9_-]+$" }],
        },
        "options": {
            "type": "object",
            "description": "With a provider that is a plugin, its own; { env = … } and { file = … } are secrets at any depth.",
        },
        "secrets": {
            "description": "All live signing secrets; a request need match only one.",
            "anyOf": [{ "$ref": "#/$defs/secret" }, { "type": "array", "items": { "$ref": "#/$defs/secret" } }],
        },
        "path_token": { "$ref": "#/$defs/secret", "description": "The secret last segment of the address." },
        "unverified": { "type": "boolean", "default": false, "description": "Believe everybody." },
        "tolerance": time("10m", "How far a signed timestamp may lie from the present."),
        "body_size": size("5MiB", "The longest body."),
        "dedup_window": time("7d", "How long redeliveries are told."),
    }));
    source["required"] = json!(["name", "provider"]);
    source
}

fn instance() -> Value {
    let mut instance = section(json!({
        "name": { "$ref": "#/$defs/name", "description": "What `use` in a step names." },
        "plugin": { "type": "string", "description": "What the library calls itself; by default the instance's name." },
        "concurrency": count("Calls at a time."),
        "rate": { "$ref": "#/$defs/rate", "description": "How fast calls may begin; evenly, but for a burst." },
        "breaker": {
            "description": "When it is given a rest: after deliveries that failed in turn. `false` for never.",
            "oneOf": [
                { "type": "boolean" },
                section(json!({
                    "failures": { "type": "integer", "minimum": 1, "default": 10, "description": "After so many deliveries." },
                    "rest": time("10s", "The first rest; each is twice as long as the one before."),
                    "max": time("5m", "The longest rest."),
                })),
            ],
        },
        "limit": { "type": "array", "items": limit(), "description": "What bounds calls that are alike." },
        "timeout": { "$ref": "#/$defs/time", "description": "For one call." },
        "isolation": {
            "enum": ["process", "none"], "default": "process",
            "description": "Where it lives: in a process of its own, which is started again when it crashes, or in the router, whose crash that is then.",
        },
        "limits": section(json!({
            "memory": size("1GiB", "What it may take beyond what its process begins with; the same for each program that it starts."),
            "open_files": { "type": "integer", "minimum": 32, "default": 1024, "description": "Files and sockets open at a time." },
            "core_file": size("0B", "What it may leave behind of its memory when it crashes, secrets and all."),
            "silence": time("10s", "How long its process may leave the router without an answer before it is ended."),
        })),
        "grant": section(json!({
            "network": texts("Hosts that it may talk to: host[:port], *.host[:port]; the port is 443 where none is said."),
            "read": texts("Files and directories that it may read; relative ones begin in data_dir."),
            "write": texts("The same, to be written as well. A directory that is not there is made."),
            "programs": texts("Programs that it may run, by name or by the absolute path of the file."),
        })),
        "config": { "type": "object", "description": "The plugin's own; { env = … } and { file = … } are secrets at any depth." },
        "secrets": { "type": "object", "additionalProperties": { "$ref": "#/$defs/secret" } },
    }));
    instance["required"] = json!(["name"]);
    instance
}

fn limit() -> Value {
    let mut limit = section(json!({
        "by": { "type": "string", "pattern": "\\{[{%]", "description": "A template over `input` and `event`: calls for which it makes an equal text share the limit." },
        "rate": { "$ref": "#/$defs/rate", "description": "How fast they may begin." },
        "concurrency": count("How many of them run at a time."),
    }));
    limit["required"] = json!(["by"]);
    limit["anyOf"] = json!([{ "required": ["rate"] }, { "required": ["concurrency"] }]);
    limit
}

fn rate() -> Value {
    let mut table = section(json!({
        "calls": count("So many calls…"),
        "per": { "$ref": "#/$defs/time", "description": "…in this time." },
        "burst": { "type": "integer", "minimum": 1, "default": 1, "description": "How many of them may begin at once after a rest." },
    }));
    table["required"] = json!(["calls", "per"]);
    json!({ "oneOf": [{ "type": "string", "pattern": "^[0-9]+/[0-9]*(ms|s|m|h|d)$" }, table] })
}

fn section(properties: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn address(default: &str, description: &str) -> Value {
    json!({ "type": "string", "default": default, "description": description })
}

fn count(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 1, "description": description })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

fn age(default: &str, description: &str) -> Value {
    json!({
        "anyOf": [{ "$ref": "#/$defs/time" }, { "const": "forever" }],
        "default": default, "description": description,
    })
}

fn time(default: &str, description: &str) -> Value {
    json!({ "$ref": "#/$defs/time", "default": default, "description": description })
}

fn size(default: &str, description: &str) -> Value {
    json!({ "$ref": "#/$defs/size", "default": default, "description": description })
}
